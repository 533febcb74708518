"""The output of commands: tables, sizes, progress and files."""
