"""Gates: bounds on figures, read from a file, and whether a version passes them. Pure but for reading the file."""

from __future__ import annotations

import math
import operator
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from towline.core.errors import UsageError
from towline.core.plain_file import read_plain_file

MAX_FILE_BYTES = 1 << 20
_BOUND = re.compile(r"\s*(<=|>=|<|>|==)\s*([-+]?[0-9.eE+-]+)\s*(pt|%)?\s*")
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}
# 0.3pt is 0.3 of a hundredth, as people speak of accuracy.
_UNITS = {"": 1.0, "pt": 0.01, "%": 0.01}


@dataclass(frozen=True)
class Gate:
    """A figure by name, and its bound, such as `>=` 0.97."""

    figure: str
    compare: str
    limit: float

    def __str__(self) -> str:
        return f"{self.figure} {self.compare} {self.limit:g}"


@dataclass(frozen=True)
class Verdict:
    """`value` is None where the figure was not measured, which never passes."""

    gate: Gate
    value: float | None
    passed: bool

    def words(self) -> str:
        value = "was not measured" if self.value is None else f"is {self.value + 0.0:.6g}"
        return f"{self.gate.figure} {value}, wanted {self.gate.compare} {self.gate.limit:g}"

    def as_json(self) -> dict[str, object]:
        """Plain JSON; a value that is not finite is null."""
        value = self.value if self.value is not None and math.isfinite(self.value) else None
        return {"gate": str(self.gate), "value": value, "passed": self.passed}


def gate(figure: str, bound: object) -> Gate:
    """`">= 0.97"`, `"<= 0.5pt"`, or a bare number, which is met exactly. Raises UsageError."""
    if isinstance(bound, int | float) and not isinstance(bound, bool):
        bound = f"== {bound!r}"
    found = _BOUND.fullmatch(bound) if isinstance(bound, str) else None
    try:
        limit = float(found[2]) * _UNITS[found[3] or ""] if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or not math.isfinite(limit):
        raise UsageError(
            f"Gate '{figure[:64]}' is {str(bound)[:64]!r}, expected a comparison with a number.",
            code="BAD_GATE",
            field=figure[:64],
            hint=f'Write {figure[:32]} = ">= 0.97", or "<= 0.5pt".',
        )
    return Gate(figure, found[1], limit)


def read_gates(path: Path) -> tuple[Gate, ...]:
    """The table [gates] of a TOML file, one figure per line. Raises UsageError with the line that is wrong."""

    def refused(what: str) -> UsageError:
        return UsageError(
            f"{path} cannot be read as gates: {what}.",
            code="BAD_GATES",
            field="gates",
            hint='It takes a line [gates], and below it one such as accuracy = ">= 0.97".',
        )

    raw = read_plain_file(path, MAX_FILE_BYTES, refused)
    try:
        table = tomllib.loads(raw.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise refused(str(error).splitlines()[0]) from None
    gates = table.get("gates")
    if not isinstance(gates, dict) or not gates:
        raise refused("it has no table [gates] with a figure in it")
    return tuple(gate(figure, bound) for figure, bound in gates.items())


def verdicts(gates: Sequence[Gate], figures: Mapping[str, float]) -> tuple[Verdict, ...]:
    """Each gate beside its figure. One that was not measured, or is NaN, fails: nothing is trusted until it is measured."""
    found = []
    for one in gates:
        value = figures.get(one.figure, math.nan)
        measured = not math.isnan(value)
        found.append(Verdict(one, value if measured else None, measured and bool(_COMPARE[one.compare](value, one.limit))))
    return tuple(found)
