"""Walls around a process that reads what nobody vouches for: no network, no files but those named, bounded memory, time and disk."""
