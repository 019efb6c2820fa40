"""One file per verb; the only place that sees all rooms."""
