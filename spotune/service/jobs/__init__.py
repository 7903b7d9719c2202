"""The life of a job: submitted, planned, started, looked at, changed, ended."""
