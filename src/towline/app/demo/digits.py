"""The demo's digits: the 200 images its model has never seen, and how they look in a terminal. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

SIDE = 8
INK = " ░▒▓█"
ASCII_INK = " .:+#"
SHOWN_DIGITS = 4

# One to paste into a request: eight rows of eight pixels that look like what they are.
DRAWN_LABEL = 7
DRAWN = (
    (0, 0, 1, 1, 1, 1, 1, 0),
    (0, 0, 0, 0, 0, 1, 1, 0),
    (0, 0, 0, 0, 0, 1, 0, 0),
    (0, 0, 0, 1, 1, 1, 1, 0),
    (0, 0, 0, 0, 1, 0, 0, 0),
    (0, 0, 0, 1, 1, 0, 0, 0),
    (0, 0, 0, 1, 0, 0, 0, 0),
    (0, 0, 1, 1, 0, 0, 0, 0),
)


@dataclass(frozen=True)
class Digit:
    """64 pixels from 0 (paper) to 16 (ink), row by row, and the digit that was meant."""

    pixels: tuple[int, ...]
    label: int

    def instance(self) -> list[list[list[float]]]:
        """The image as the model wants it: [1, 8, 8], from 0 to 1."""
        return [[[pixel / 16 for pixel in self.pixels[start : start + SIDE]] for start in range(0, SIDE * SIDE, SIDE)]]


def read_digits(raw: bytes) -> tuple[Digit, ...]:
    """What scripts/train_digits.py wrote."""
    found = json.loads(raw)
    return tuple(Digit(tuple(pixels), label) for pixels, label in zip(found["images"], found["labels"], strict=True))


def chosen(digits: Sequence[Digit], answers: Sequence[int]) -> list[int]:
    """Which to show: those that were read wrongly first, then the first ones."""
    return sorted(range(len(digits)), key=lambda at: (answers[at] == digits[at].label, at))[:SHOWN_DIGITS]


def picture(digits: Sequence[Digit], answers: Sequence[int], ink: str = INK) -> list[str]:
    """Some digits side by side, with what the model read; `ink` goes from paper to full ink."""
    shown = chosen(digits, answers)
    lines = []
    for row in range(SIDE):
        pieces = ("".join(ink[min(p * len(ink) // 17, len(ink) - 1)] * 2 for p in _row(digits[at], row)) for at in shown)
        lines.append("    " + "  ".join(pieces).rstrip())
    return [*lines, "    " + "  ".join(_caption(digits[at], answers[at]).ljust(SIDE * 2) for at in shown).rstrip()]


def _row(digit: Digit, row: int) -> tuple[int, ...]:
    return digit.pixels[row * SIDE : (row + 1) * SIDE]


def _caption(digit: Digit, answer: int) -> str:
    return f"read as {answer}" if answer == digit.label else f"a {digit.label} read as {answer}"
