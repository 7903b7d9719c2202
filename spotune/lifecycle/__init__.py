"""Pure life of a job: `decide(job, event, now) -> Decision`."""

from spotune.lifecycle.decide import decide, open_job, open_prepared

__all__ = ["decide", "open_job", "open_prepared"]
