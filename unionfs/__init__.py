"""PyUnion's union filesystem: a copy-on-write upper over read-only layers.

`core` decides, `vfs` is the one seam, `transports` carry requests from the
kernel to it, `syscalls` is the only home of ctypes.  Imports point one way:
transports -> vfs <- core -> syscalls -> errors, types.
"""
