"""Who asks, what they may, how often, and what is written down of it."""
