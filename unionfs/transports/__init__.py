"""The transports carry the kernel's requests to a `vfs.Filesystem`, and hold no policy."""
