"""`python -m training_container`: one training job under SPOTUNE_ML_ROOT (default /opt/ml), or one process of it."""

from __future__ import annotations

import os
import sys
import time

from spotune.contracts.training import ExitCode
from training_container import driver
from training_container.faults import Stopped
from training_container.folders import Folders
from training_container.inputs import read_inputs
from training_container.model_files import check_model
from training_container.outcome import Outcome, tell
from training_container.stop import StopRequest
from training_container.worker import end_with_launcher, is_worker


def main() -> ExitCode:
    """Run the job, or start the processes that do; whatever goes wrong is written to `output/failure`, typed."""
    started = time.monotonic()
    if not is_worker():
        driver.cross()
    # Threads that spin while they wait starve whatever shares the machine's cores. Read when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folders = Folders.from_environment()
    stop = StopRequest()
    stop.listen()
    if is_worker():
        end_with_launcher()
    else:
        folders.failure.unlink(missing_ok=True)
    try:
        outcome = _run(folders, stop, started)
    except Stopped:
        outcome = Outcome.of(ExitCode.STOPPED)
    except Exception as error:  # the edge of the process: every end has an exit code and a reason
        outcome = Outcome.of_error(error)
    return tell(outcome, folders)


def _run(folders: Folders, stop: StopRequest, started: float) -> Outcome:
    with stop.at_once():
        inputs = read_inputs(folders)
        if not is_worker():  # once on each host, before anything of the model is read
            check_model(inputs.model, inputs.config.model_sha256)
    if inputs.hosts.ranks > 1 and not is_worker():
        from training_container.launch import launch

        return launch(inputs.hosts, stop)
    with stop.at_once():
        from training_container.job import run  # slow to import: torch comes with it

    return Outcome.of(run(inputs, stop, started=started))


if __name__ == "__main__":
    sys.exit(main())
