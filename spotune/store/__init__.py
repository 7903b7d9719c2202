"""The one place that knows items and keys."""
