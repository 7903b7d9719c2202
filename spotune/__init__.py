"""Spotune: a team's own LLM fine-tuning service. docs/architecture.md is the map."""
