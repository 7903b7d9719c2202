"""Uploaded files, and what stands for files elsewhere."""
