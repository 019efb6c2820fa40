"""Read what other servers were started with: their files and flags become a plan of what to import, to set and to tell."""
