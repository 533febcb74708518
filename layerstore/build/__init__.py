"""Containerfiles: what a build has to do, decided without running anything."""
