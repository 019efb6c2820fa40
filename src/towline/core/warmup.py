"""Replay a version's golden requests on a freshly loaded session, compare the answers, and time the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from towline.core.cpu import cpu_kind
from towline.core.errors import TowlineError
from towline.core.frames import decode_frame
from towline.core.golden import compare_golden
from towline.core.manifest import Manifest, Padding

_TIMED_RUNS = 5
_LENGTHS_BUDGET_S = 0.5
# What a run of twice the length is expected to cost more.
_DEARER = 2.5
_TIMED_BUDGET_S = 0.5
_CURVE_BUDGET_S = 0.1
MAX_POINTS = 8
_SLOW_US = 50_000
_MAX_GOLDEN_BYTES = 256 << 20

Run = Callable[..., Sequence[np.ndarray]]


@dataclass(frozen=True)
class WarmReport:
    """May the session serve? Microseconds of a run of one row, and of eight rows at once; -1 when not measured.

    Of a version that is not batchable, `one_row_us` is one run of its first golden request.
    """

    is_ready: bool
    reason: str = ""
    one_row_us: float = -1.0
    eight_rows_us: float = -1.0
    # Rows and microseconds of runs with ever more rows, as far as that was timed; empty for what never merges.
    curve: tuple[tuple[int, float], ...] = ()
    # Of what may be padded: length of a row, microseconds of a run of one such row, and of eight at once.
    lengths: tuple[tuple[int, float, float], ...] = ()

    def as_message(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> WarmReport:
        return cls(
            bool(message.get("is_ready")),
            str(message.get("reason", ""))[:512],
            _microseconds(message.get("one_row_us")),
            _microseconds(message.get("eight_rows_us")),
            tuple((int(rows), us) for rows, us in _points(message.get("curve"), 2)),
            tuple((int(length), one_us, eight_us) for length, one_us, eight_us in _points(message.get("lengths"), 3)),
        )


def _microseconds(told: Any) -> float:
    """What a worker tells is not trusted: anything but a number is as good as not measured."""
    return float(told) if isinstance(told, int | float) and told == told else -1.0


def _points(told: Any, size: int) -> list[list[float]]:
    """Nor is this: points of `size` numbers above zero, the first a whole one; a few of them."""
    points = told[:MAX_POINTS] if isinstance(told, list) else []
    are_right = all(
        isinstance(point, list) and len(point) == size and all(isinstance(one, int | float) and one > 0 for one in point) and point[0] >= 1
        for point in points
    )
    return points if are_right else []


def warm(run: Run, folder: Path, manifest: Manifest) -> WarmReport:
    """Run every golden request and compare (core/golden.py); then time the first."""
    names = [spec.name for spec in manifest.signature.outputs]
    measured = manifest.measured
    first: dict[str, np.ndarray] | None = None
    for golden in manifest.golden:
        request = _read(folder / golden.request)
        try:
            got = dict(zip(names, run(request), strict=True))
        except TowlineError as error:
            return WarmReport(False, f"It no longer answers its golden request {golden.request}: {error.message}")
        verdict = compare_golden(
            _read(folder / golden.response), got, golden.bounds, deterministic=measured.deterministic, same_cpu=measured.cpu == cpu_kind()
        )
        if not verdict.ok:
            return WarmReport(False, f"It does not answer as it did when it was imported: {verdict.why} ({golden.request}).")
        first = first if first is not None else request
    if first is None:
        return WarmReport(True)
    if not manifest.batchable:
        return WarmReport(True, "", _time_us(run, first))
    one_us = _time_us(run, _rows(first, 1))
    # Of a slow model two rows tell as much, and the load does not wait for eight.
    rows = 8 if one_us < _SLOW_US else 2
    eight_us = _time_us(run, _rows(first, rows)) * 8 / rows
    curve = _timed_curve(run, first, one_us, eight_us, measured.max_batch)
    return WarmReport(True, "", one_us, eight_us, curve, _timed_lengths(run, first, manifest.padding, one_us + eight_us))


def _timed_curve(run: Run, first: dict[str, np.ndarray], one_us: float, eight_us: float, max_rows: int) -> tuple[tuple[int, float], ...]:
    """Runs of 8, 32, 128, … rows, while more of them are expected to fit the budget."""
    curve = [(8, eight_us)]
    left_us = _CURVE_BUDGET_S * 1e6
    rows = 32
    # Expected at worst: each row costs as much as the first.
    while rows <= max_rows and len(curve) < MAX_POINTS and _TIMED_RUNS * rows * one_us < left_us:
        us = _time_us(run, _rows(first, rows))
        curve.append((rows, us))
        left_us -= _TIMED_RUNS * us
        rows *= 4
    return tuple(curve)


def _timed_lengths(
    run: Run, first: dict[str, np.ndarray], padding: tuple[Padding, ...], last_us: float
) -> tuple[tuple[int, float, float], ...]:
    """Runs of rows of 8, 16, 32, … elements, one and eight at once, while more fit the budget. `last_us` is what both took before."""
    timed: list[tuple[int, float, float]] = []
    left_us, length = _LENGTHS_BUDGET_S * 1e6, 8
    longest = max((one.longest for one in padding), default=0)
    while length <= longest and len(timed) < MAX_POINTS:
        runs = _TIMED_RUNS if last_us < _SLOW_US else 1
        if runs * _DEARER * last_us > left_us:
            break
        rows = _lengthened(first, padding, length)
        try:
            one_us, eight_us = _time_us(run, _rows(rows, 1), runs), _time_us(run, _rows(rows, 8), runs)
        except TowlineError:
            # It answers its golden requests, and may serve: where it has no room for longer rows, none are padded.
            break
        timed.append((length, one_us, eight_us))
        last_us = one_us + eight_us
        left_us -= runs * last_us
        length *= 2
    return tuple(timed)


def _lengthened(inputs: dict[str, np.ndarray], padding: tuple[Padding, ...], length: int) -> dict[str, np.ndarray]:
    """The same values over and over, up to that length, or as far as a dim may grow."""
    longer = dict(inputs)
    for dim in padding:
        for one in dim.inputs:
            array = longer[one.name]
            places = np.arange(min(length, dim.longest)) % array.shape[one.axis]
            longer[one.name] = np.ascontiguousarray(array.take(places, one.axis))
    return longer


def _rows(inputs: dict[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    return {name: np.repeat(array[:1], rows, axis=0) for name, array in inputs.items()}


def _read(path: Path) -> dict[str, np.ndarray]:
    with path.open("rb") as file:
        return decode_frame(file.read(_MAX_GOLDEN_BYTES))


def _time_us(run: Run, inputs: dict[str, np.ndarray], runs: int = _TIMED_RUNS) -> float:
    """The quickest of a few runs: what the model costs when nothing disturbs it."""
    best = float("inf")
    until = time.perf_counter() + _TIMED_BUDGET_S
    for _ in range(runs):
        began = time.perf_counter()
        run(inputs)
        ended = time.perf_counter()
        best = min(best, ended - began)
        if ended > until:
            break
    return best * 1e6
