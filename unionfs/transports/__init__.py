"""The transports, which carry the kernel's requests to a `vfs.Filesystem` and have no policy."""
