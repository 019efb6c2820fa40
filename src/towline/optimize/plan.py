"""What to try next on the way to a smaller or faster version, from what was measured so far. Pure.

The order comes from what was measured on models of all kinds: static int8 gains where integers have instructions, ranges matter more than
the method that finds them, and where a few layers are to blame, leaving those in float costs little of the gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from towline.optimize.base import Chain, Pass
from towline.optimize.graph import Half, Slim
from towline.optimize.qdq import Calibration
from towline.optimize.quantize import DynamicInt8, Int8, reduces_range
from towline.optimize.sensitivity import Sensitivity

_RANGES: tuple[Calibration, ...] = ("minmax", "percentile", "entropy")
# How many of the guiltiest operators stay in float, one step after another.
STEPS = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Tried:
    """A chain of passes and what came of it. `fits`: the gates said yes. `speedup` and `size_ratio` are against the version it came from;
    `speedup_sure` is what three turns in four of the timing reached. `agreement` is the share of rows whose first class stays, None where
    there are no classes; `notes` and `curves` are what its passes told (optimize/base.py: Passed)."""

    tried: Chain
    fits: bool
    speedup: float
    size_ratio: float
    drop: float
    because: str = ""
    speedup_sure: float = 0.0
    agreement: float | None = None
    notes: tuple[str, ...] = ()
    curves: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def first_passes(cpu: str, *, has_data: bool) -> tuple[Pass, ...]:
    """What is always tried. Dynamic int8 and float16 as well, although they seldom pay: it is measured, not believed."""
    narrow = reduces_range(cpu)
    static = tuple(Int8(calibration=how, reduce_range=narrow) for how in _RANGES)
    return (Slim(), *(static if has_data else ()), DynamicInt8(reduce_range=narrow), Half())


def wants_sensitivity(tried: Sequence[Tried]) -> bool:
    """Whether no static int8 fits although one would be worth it."""
    static = [one for one in tried if isinstance(one.tried.last, Int8)]
    return bool(static) and not any(one.fits for one in static) and any(one.speedup > 1 for one in static)


def mixed(best: Int8, guilty: Sequence[Sensitivity]) -> tuple[Int8, ...]:
    """Static int8 with ever more of the guiltiest operators in float, the fewest first."""
    order = [one.operator for one in sorted(guilty, key=lambda one: (one.sqnr_db, one.operator))]
    counts = dict.fromkeys(count for count in STEPS if count < len(order))
    return tuple(replace(best, floats=tuple(order[:count])) for count in counts)


def chosen(tried: Sequence[Tried]) -> Tried | None:
    """The fastest of those that fit and are faster, or as fast and smaller; None when nothing is worth it."""
    worth = [one for one in tried if one.fits and (one.speedup_sure >= FASTER or (one.speedup >= AS_FAST and one.size_ratio <= SMALLER))]
    return max(worth, key=lambda one: (round(one.speedup, 2), -one.size_ratio), default=None)


# Measured side by side, a few per cent are noise.
FASTER = 1.05
AS_FAST = 0.97
SMALLER = 0.9
