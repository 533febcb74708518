"""Reading and compressing tar streams; knows no store."""
