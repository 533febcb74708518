"""Builds: what has to be done for a Containerfile, decided without running anything."""
