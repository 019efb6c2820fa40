"""Talk to a server from Python."""
