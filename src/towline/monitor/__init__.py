"""Read what happened."""
