"""A retraining's dataset, put together from accepted files: which of their rows, and the bytes of these.

Files are told apart by row hashes alone (`hashes`), so that counting and choosing (`choosing`, `replay`, `frozen`) read
no data; the choice is a list of manifest entries, and `copying` turns entries into bytes, the first time and every time
after. Memory is bounded by `passes.BUDGET_BYTES` and one bit for each row, whatever the files' sizes.
"""
