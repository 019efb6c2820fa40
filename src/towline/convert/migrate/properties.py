"""Read a Java properties file as TorchServe's config.properties is one. Pure."""

from __future__ import annotations

import re

from towline.convert.migrate.plan import bad
from towline.core.refs import clip

_PAIR = re.compile(r"((?:\\.|[^=:\s\\])+)[ \t\f]*[=: \t\f]?[ \t\f]*(.*)", re.DOTALL)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_CONTROL = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}


def read_properties(text: str, label: str) -> dict[str, tuple[str, int]]:
    """Value and line of each key. Raises UsageError with the line for what is no pair, for a bad escape and for a key given twice."""
    found: dict[str, tuple[str, int]] = {}
    for number, line in _lines(text):
        pair = _PAIR.fullmatch(line)
        if pair is None:
            raise bad(f"{label}, line {number}: {clip(line)!r} is no property.", "A line is: name=value")
        name, value = (_unescaped(part, label, number) for part in pair.groups())
        if name in found:
            raise bad(f"{label}, line {number}: '{clip(name)}' stands in line {found[name][1]} already.", "Keep one of them.")
        found[name] = value, number
    return found


def _lines(text: str) -> list[tuple[int, str]]:
    """Each property with the number of its first line: comments left out, lines that end in a backslash joined."""
    found: list[tuple[int, str]] = []
    open_line = ""
    began = 0
    for number, raw in enumerate([*text.splitlines(), ""], 1):
        line = raw.lstrip(" \t\f")
        if not open_line:
            if not line or line[0] in "#!":
                continue
            began = number
        backslashes = len(line) - len(line.rstrip("\\"))
        if backslashes % 2:
            open_line += line[:-1]
            # Even an empty start goes on.
            open_line = open_line or " "
            continue
        found.append((began, (open_line + line).strip(" \t\f")))
        open_line = ""
    return [(number, line) for number, line in found if line]


def _unescaped(text: str, label: str, number: int) -> str:
    def plain(found: re.Match[str]) -> str:
        word = found[1]
        if word == "u":
            raise bad(f"{label}, line {number}: \\u is followed by no four hexadecimal digits.")
        return chr(int(word[1:], 16)) if len(word) == 5 else _CONTROL.get(word, word)

    return _ESCAPE.sub(plain, text)
