"""System calls that Python's `os` lacks; the only home of ctypes."""
