"""Containerfiles: their grammar, and what each instruction makes of a run configuration."""
