"""Members of the store contract (core/store.py)."""
