"""A process beside the front that reads large JSON bodies, so that nobody else waits for that."""
