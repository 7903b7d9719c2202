"""`python -m training_container`: one training job under SPOTUNE_ML_ROOT (default /opt/ml)."""

from __future__ import annotations

import os
import sys
import time

from spotune.contracts.training import ExitCode
from training_container.faults import Stopped, failure_of
from training_container.folders import Folders, replace_file
from training_container.inputs import read_inputs
from training_container.stop import StopRequest


def main() -> ExitCode:
    """Run the job; whatever goes wrong is written to `output/failure`, typed."""
    started = time.monotonic()
    # Threads that spin while they wait starve whatever shares the machine's cores. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folders = Folders.from_environment()
    stop = StopRequest()
    stop.listen()
    folders.failure.unlink(missing_ok=True)
    try:
        with stop.at_once():
            inputs = read_inputs(folders)
            from training_container.job import run  # slow to import: torch comes with it

        return run(inputs, stop, started=started)
    except Stopped:
        return ExitCode.STOPPED
    except Exception as error:  # the edge of the process: every end has an exit code and a reason
        failure, code = failure_of(error)
        print(failure.model_dump_json(), file=sys.stderr, flush=True)
        replace_file(folders.failure, failure.model_dump_json().encode())
        return code


if __name__ == "__main__":
    sys.exit(main())
