"""Tables, sizes, progress and files that commands write."""
