"""What the OCI and docker specifications define: digests, references, documents, platforms."""
