"""The nouns every room talks in. Importing this package imports nothing heavy."""
