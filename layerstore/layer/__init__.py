"""The layer codec: a tar becomes a layer directory in overlay format, and the reverse."""
