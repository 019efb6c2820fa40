"""What a check is, how it ends, and the list of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from towline.verify.conformance.target import Target

MAX_SHOWN = 300


class Level(Enum):
    MUST = "MUST"
    SHOULD = "SHOULD"


class Status(Enum):
    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True)
class Check:
    """One clause. `id` is `protocol/what`, stable; `words` is the clause as a sentence."""

    id: str
    level: Level
    words: str
    ask: Callable[[Target], None]

    @property
    def protocol(self) -> str:
        return self.id.partition("/")[0]


@dataclass(frozen=True)
class Result:
    """How one check ended. `sent`, `expected` and `got` are for people, cut to a line each; `reason` tells why it was skipped."""

    check: Check
    status: Status
    sent: str = ""
    expected: str = ""
    got: str = ""
    reason: str = ""


class Failed(Exception):
    """The server did not keep the clause."""

    def __init__(self, expected: object, got: object) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = shown(expected), shown(got)


class Skipped(Exception):
    """The clause cannot be asked of this server: an extension it does not name, a model that is not there."""


def expect(holds: bool, expected: object, got: object) -> None:
    if not holds:
        raise Failed(expected, got)


def expect_equal(got: Any, expected: Any) -> None:
    expect(got == expected, expected, got)


def shown(value: object) -> str:
    """A value from outside in one printable line."""
    text = value if isinstance(value, str) else repr(value)
    line = "".join(char if " " <= char < "\x7f" or ord(char) > 0xA0 else "?" for char in text)
    return line if len(line) <= MAX_SHOWN else line[: MAX_SHOWN - 1] + "…"


class Suite:
    """Checks in the order they were written down."""

    def __init__(self, protocol: str) -> None:
        self.protocol = protocol
        self.checks: list[Check] = []

    def must(self, name: str, words: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
        return self._adding(name, Level.MUST, words)

    def should(self, name: str, words: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
        return self._adding(name, Level.SHOULD, words)

    def _adding(self, name: str, level: Level, words: str) -> Callable[[Callable[[Target], None]], Callable[[Target], None]]:
        def add(ask: Callable[[Target], None]) -> Callable[[Target], None]:
            self.checks.append(Check(f"{self.protocol}/{name}", level, words, ask))
            return ask

        return add
