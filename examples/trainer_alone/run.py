"""The trainer without the rest: no account, no service, no AWS. One folder in SageMaker's layout, one process.

    python examples/trainer_alone/run.py --model DIR --train FILE --out DIR [--held-out FILE] [--config FILE]

A run that was stopped or killed goes on from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main() -> int:
    """Lay the folder out, train, and say where the model is; returns the trainer's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="the base model's folder, as save_pretrained writes")
    parser.add_argument("--train", type=Path, required=True, help="JSONL; docs/data.md has the formats")
    parser.add_argument("--held-out", type=Path, help="JSONL; without it a share of the training rows is held out")
    parser.add_argument("--config", type=Path, default=HERE / "training.json")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()

    lay_out(options.out, options.config, options.model, {"training": options.train, "validation": options.held_out})
    environment = {**os.environ, "SPOTUNE_ML_ROOT": str(options.out.resolve())}
    code = subprocess.call([sys.executable, "-m", "training_container"], env=environment)
    if code == 0:
        tell(options.out / "model")
    return code


def lay_out(out: Path, config: Path, model: Path, files: dict[str, Path | None]) -> None:
    """`input/data/CHANNEL`: the config, the model's folder, and one JSONL file each for the rows."""
    channels = out / "input" / "data"
    (channels / "config").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(config, channels / "config" / "training.json")
    link = channels / "model"
    link.unlink(missing_ok=True)
    link.symlink_to(model.resolve(), target_is_directory=True)
    for name, file in files.items():
        shutil.rmtree(channels / name, ignore_errors=True)
        if file is not None:
            (channels / name).mkdir()
            shutil.copyfile(file, channels / name / file.name)


def tell(folder: Path) -> None:
    """What `report.json` says, in a few lines."""
    report = json.loads((folder / "report.json").read_bytes())
    for each in report["comparisons"]:
        interval = f"95 % interval of the difference {each['low']:.4f} to {each['high']:.4f}"
        print(f"{each['metric']}: {each['base']:.4f} before, {each['tuned']:.4f} after ({interval})")
    for output in report["outputs"]:
        print(f"{output['name']}: {folder / output['path']}, {output['bytes']:,} bytes")
    for warning in report["warnings"]:
        print(f"warning: {warning}")


if __name__ == "__main__":
    sys.exit(main())
