"""The use cases: what a handler calls."""
