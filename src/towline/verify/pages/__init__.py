"""HTML pages and charts of what verification found: one file each, nothing fetched, nothing run."""
