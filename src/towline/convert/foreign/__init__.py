"""Foreign models: read, answered and converted by a process in the environment of their framework."""
