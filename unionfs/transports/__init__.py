"""What carries the kernel's requests to a `vfs.Filesystem`; no policy here."""
