"""What `migrate` does: another server's store becomes ours."""
