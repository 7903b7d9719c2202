"""Pure life of a job: `decide(job, event, now) -> Decision`."""

from spotune.lifecycle.decide import decide, open_job, open_prepared
from spotune.lifecycle.finished import finished_run

__all__ = ["decide", "finished_run", "open_job", "open_prepared"]
