"""The database of a store, its schema, and what makes writes to the store durable."""
