"""Containers: a named upper over an image, and the control socket of a mounted one."""
