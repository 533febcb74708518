"""The FUSE protocol, spoken without file descriptors: bytes in, calls, bytes out."""
