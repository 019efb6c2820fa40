"""What `bench` does: press a server, ours or another, and say what it bore."""
