"""Print: data to stdout, talk to stderr, nothing from outside unescaped."""

from __future__ import annotations

import json
import sys
import time
import unicodedata
from collections.abc import Iterable, Sequence
from typing import IO, Any

# The full-width space of Chinese and Japanese text is not "printable" to Python, but does no harm.
_HARMLESS = "　"


def printable(text: object) -> str:
    """`text` on one line, with control, direction-changing and unassigned characters written as escapes."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(char if char.isprintable() or char in _HARMLESS else _escaped(char) for char in plain)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def width(text: str) -> int:
    """Columns a terminal gives to `text`: two for a wide character, none for a combining mark."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(char) else 1 + (unicodedata.east_asian_width(char) in "WF") for char in text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> str:
    """Plain aligned columns, two spaces apart; the columns named in `right` are aligned to the right."""
    cells = [list(headers), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(width(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        padded = [
            " " * (widths[column] - width(cell)) + cell if headers[column] in right else cell + " " * (widths[column] - width(cell))
            for column, cell in enumerate(row)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def emit(text: str) -> None:
    """Data, for the next program or a reader."""
    _write(sys.stdout, text)


def emit_json(schema: str, content: dict[str, Any]) -> None:
    """One JSON object. ASCII only, so that nothing in it can act on a terminal; NaN has no JSON and must be spelled out before."""
    emit(json.dumps({"schema": schema, **content}, indent=2, allow_nan=False))


def say(text: str) -> None:
    """Talk: what a person wants to know and a pipe does not."""
    _write(sys.stderr, text)


def say_step(sentence: str) -> None:
    """What is being done just now, or a line of what came of it. It may hold names from outside."""
    say(f"  {printable(sentence)}")


def say_next(see: str, *commands: str) -> None:
    """Where to see what was changed, and at most three commands that may come next."""
    assert len(commands) <= 3, "three next commands are enough"
    if see:
        say(f"  see   {printable(see)}")
    for index, command in enumerate(commands):
        say(f"  {'next' if index == 0 else '    '}  {printable(command)}")


def say_error(message: str, hint: str = "") -> None:
    say(f"error: {printable(message)}")
    if hint:
        say(f"  hint: {printable(hint)}")


def _write(stream: IO[str] | None, text: str) -> None:
    # A stream is None when its descriptor was closed before we started.
    if stream is not None:
        stream.write(text + "\n")


def size_words(size_bytes: int) -> str:
    """1536 -> '1.5 KiB'."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def moment_words(at_s: float) -> str:
    """Seconds since 1970 as local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))
