"""Operations on the whole store: commit, garbage collection, check, import and export."""
