"""A user's own class as a model: read, run, and kept from harming more than its worker."""
