"""What `tune` does: press a version's settings, and keep those that pay."""
