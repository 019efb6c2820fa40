"""What `test` and `compare` do: measure a version, or two against each other."""
