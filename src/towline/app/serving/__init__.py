"""What `serve` does: the processes of a server, and what the owner and clients change while it runs."""
