"""Values as JSON can say them. Pure."""

from __future__ import annotations

import math
from typing import Any


def spelled(value: Any) -> Any:
    """JSON has no NaN and no bytes: NaN, Infinity and -Infinity become those words, bytes text; lists are gone through."""
    if isinstance(value, list):
        return [spelled(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
