"""Version and data become evidence."""
