"""Run a version."""
