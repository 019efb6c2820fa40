"""What `env` does: the Python environments of frameworks."""
