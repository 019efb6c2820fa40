"""Fakes, tiny models and contract checks: public, documented."""
