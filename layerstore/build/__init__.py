"""Builds: the plan, the sources and the copies of a Containerfile; nothing is executed here."""
