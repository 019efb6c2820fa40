"""What holds for every test: examples that are drawn are the same on each run, and no machine is too slow for one."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine may take any time over one example; and what is red today was not green yesterday by the luck of the draw.
settings.register_profile("any machine", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
