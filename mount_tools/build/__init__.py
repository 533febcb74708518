"""The running of a build: stages as mounted containers, steps frozen into layers."""
