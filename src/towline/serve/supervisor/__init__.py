"""The process that starts the others, and starts them again."""
