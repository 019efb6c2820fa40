"""Sources and data by URL."""
