"""Read an old server's command line by the table of the flags it knew. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from towline.convert.migrate.plan import Row, bad
from towline.core.refs import clip

_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True)
class Flag:
    """What a flag is here: a setting, a flag or a command (`ours`), or nothing; `why` says the rest. A switch needs no value."""

    ours: str = ""
    why: str = ""
    is_switch: bool = False


def read_flags(words: Sequence[str], known: Mapping[str, Flag], server: str, program: str) -> dict[str, str]:
    """Flags by name, without dashes; a switch alone is `true`. `program`, the first word, may be left out.

    Raises UsageError for a flag that the old server did not know either, and for one that lacks its value.
    """
    found: dict[str, str] = {}
    rest = list(words[1:] if words and words[0].rpartition("/")[2] == program else words)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.lstrip("-").partition("=")
        flag = known.get(name)
        if not word.startswith("-") or flag is None:
            near = difflib.get_close_matches(name, known, n=1)
            raise bad(f"{clip(word)!r} is no flag of {server}.", f"Did you mean --{near[0]}?" if near else "Give its flags as they were.")
        if not equals:
            value = "true" if flag.is_switch and not (rest and is_bool(rest[0])) else rest.pop(0) if rest else ""
            if value == "" or (value.startswith("-") and not flag.is_switch and not value[1:].isdigit()):
                raise bad(f"--{name} needs a value.", "Give the old command line whole.")
        found[name] = value
    return found


def rows_of(flags: Mapping[str, str], known: Mapping[str, Flag]) -> tuple[Row, ...]:
    return tuple(Row(f"--{name}", value, known[name].ours, known[name].why) for name, value in flags.items())


def is_bool(value: str) -> bool:
    return value.lower() in (*_TRUE, *_FALSE)


def is_true(value: str) -> bool:
    return value.lower() in _TRUE


def port(flags: Mapping[str, str], name: str, default: int) -> int:
    """Raises UsageError for what is no port."""
    value = flags.get(name, str(default))
    if not value.isascii() or not value.isdigit() or len(value) > 5 or int(value) > 65535:
        raise bad(f"--{name} must be a port from 0 to 65535, got {clip(value)!r}.")
    return int(value)


def whole(flags: Mapping[str, str], name: str) -> int | None:
    """Raises UsageError for what is no whole number."""
    value = flags.get(name)
    if value is None:
        return None
    if not value.isascii() or not value.isdigit() or len(value) > 18:
        raise bad(f"{name} must be a whole number, got {clip(value)!r}.")
    return int(value)
