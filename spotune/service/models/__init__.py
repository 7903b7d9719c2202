"""Base models, and the versions that jobs made: groups, champions, lineage."""
