"""Walk trees, and find the differences of two of them."""
