"""Images as files: docker and OCI archives, loaded and saved."""
