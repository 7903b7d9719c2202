"""Whatever crosses a boundary, as pydantic models. Imports nothing of ours."""
