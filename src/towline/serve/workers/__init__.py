"""The processes in which models run, as the front sees them."""
