"""Make text that came out of a model file safe to repeat in a message: one line, printable, short, no path of ours. Pure."""

from __future__ import annotations

import re

from towline.core.refs import clip

NAME_LIMIT = 64
SENTENCE_LIMIT = 300
# Where a library says which of its own source lines is speaking; nobody outside needs it.
_SOURCE_LINE = re.compile(r"\S*/\S+\.(?:cc|h|cpp|hpp|py):\d+\S*")


def name(text: str) -> str:
    """A name from a file, in quotes, with control characters escaped and the end cut."""
    return f"'{_printable(clip(text, NAME_LIMIT))}'"


def sentence(text: str, *, hidden: tuple[str, ...] = ()) -> str:
    """What a library said, as one line; each of `hidden` (paths) is taken out."""
    for secret in hidden:
        text = text.replace(secret, "")
    text = _SOURCE_LINE.sub("", text)
    return clip(_printable(" ".join(text.split())), SENTENCE_LIMIT)


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
