"""`mount.pyunion`: its command line, and the steps from there to a live mount."""
