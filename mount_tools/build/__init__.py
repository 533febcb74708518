"""Run a build: each stage is a mounted container, and each step is frozen into a layer."""
