"""Read and compress tar streams, without knowledge of a store."""
