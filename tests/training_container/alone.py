"""What one process does for test_engines.py: `python alone.py FOLDER` trains each root in it, and says how each ended.

DeepSpeed and torch's process group stay in the process that they were made in, so it is one of its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from pathlib import Path
from unittest import mock

import torch

from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.job import run
from training_container.stop import StopRequest

autocast_is_on = torch.is_autocast_enabled


def on_any(device: str = "cpu") -> bool:
    """Asked of no device, as DeepSpeed does, torch speaks of a GPU; here of the CPU in its place."""
    return autocast_is_on(device)


def main(folder: Path) -> None:
    """A root whose name ends in `probed` takes the probe's step first, as on a GPU."""
    torch.set_num_threads(1)
    ends = {}
    for root in sorted(path for path in folder.iterdir() if path.is_dir()):
        with (
            contextlib.redirect_stdout(sys.stderr),
            mock.patch("training_container.trainer.probed", lambda device, root=root: root.name.endswith("probed")),
            mock.patch("torch.is_autocast_enabled", on_any),
        ):
            try:
                ends[root.name] = str(int(run(read_inputs(Folders(root)), StopRequest())))
            except Exception:
                ends[root.name] = traceback.format_exc()
    (folder / "ends.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
