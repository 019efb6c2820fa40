"""What `export` does: a version as a file for elsewhere."""
