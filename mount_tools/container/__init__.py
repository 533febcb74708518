"""Mounting a container and running commands in it."""
