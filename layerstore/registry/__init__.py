"""Images in and out: a client of the OCI distribution protocol, and pull, push and copy on it."""
