"""Pure life of a job: `decide(job, event, now) -> Decision`."""
