"""Base models on their way from the hub into the models bucket: pinned, verified, licensed, and without code."""
