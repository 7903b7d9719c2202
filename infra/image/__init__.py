"""The training image, as files: its Dockerfile, its locked packages, and what lists its parts."""
