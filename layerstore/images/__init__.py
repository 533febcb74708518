"""Images: their rows, names, filters, documents and removal."""
