"""Benchmarks: each prints a table of figures with their bars, writes results/NAME.json, and exits 1 on a missed bar."""
