"""What `demo` does: serve a small model, press it, kill its worker."""
