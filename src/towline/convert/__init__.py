"""A foreign model becomes a version."""
