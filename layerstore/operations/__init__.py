"""What spans several rooms of the store: commit, garbage collection, check, import and export."""
