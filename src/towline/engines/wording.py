"""What an engine said, as one short line that may be shown to anyone: no paths, C++ names or control characters. Pure."""

from __future__ import annotations

import re

_NOISE = re.compile(r"\[ONNXRuntimeError\]\s*:\s*\d+\s*:\s*\w+\s*:\s*|(?:[\w.]*/)+\S*|\b\w+::\S+|[^\x20-\x7e]")
MAX_MESSAGE = 200


def cleaned(error: Exception) -> str:
    """The engine's own words."""
    text = " ".join(_NOISE.sub(" ", str(error)).split())
    return text[:MAX_MESSAGE] or "no reason was given."
