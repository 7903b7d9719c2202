"""`python -m spotune.pod FOLDER`: one host of a run on a cluster; FOLDER holds `pod.json` and `training.json`.

Its exit codes are the container's own: 0 published, 1 internal, 2 a fault of the user's, 3 stopped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from spotune.contracts.pod import HOST_VARIABLE, POD_CONFIG_NAME, PodConfig
from spotune.contracts.training import CONFIG_NAME, ExitCode
from spotune.pod.faults import fault_of
from spotune.pod.host import PACE, Host, Pace
from spotune.pod.objects import PATIENT, Objects
from spotune.pod.trainer import Stopped, Trainer

CONTAINER = (sys.executable, "-m", "training_container")
"""The image's own entry point."""


def main(folder: Path, command: Sequence[str] = CONTAINER, pace: Pace = PACE) -> int:
    """Run this host's part; whatever goes wrong is the last line of stderr, typed."""
    trainer = Trainer(command)
    trainer.listen()
    try:
        with trainer.at_once():
            import boto3  # slow to import

            host = Host(
                config=PodConfig.model_validate_json((folder / POD_CONFIG_NAME).read_bytes()),
                training=(folder / CONFIG_NAME).read_bytes(),
                number=int(os.environ.get(HOST_VARIABLE, "0")),
                root=Path(os.environ.get("SPOTUNE_ML_ROOT", "/opt/ml")),
                objects=Objects(boto3.client("s3", config=PATIENT)),
                pace=pace,
            )
        return host.run(trainer)
    except Stopped:
        return ExitCode.STOPPED
    except Exception as error:  # the edge of the process: every end has an exit code and a reason
        fault = fault_of(error)
        print(fault.failure.model_dump_json(), file=sys.stderr, flush=True)
        return fault.exit_code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
