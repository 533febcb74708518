"""Containerfiles: their grammar, and how each instruction changes a run configuration."""
