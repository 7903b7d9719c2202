"""The command line: HTTP to the API; `plan` and `data` also work offline."""
