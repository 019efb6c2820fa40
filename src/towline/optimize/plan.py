"""What to try next on the way to a smaller or faster version, from what was measured so far. Pure.

The order comes from what was measured on models of all kinds: static int8 gains where integers have instructions, ranges matter more than
the method that finds them, and where a few layers are to blame, leaving those in float costs little of the gain. Channels that are pruned,
and students, gain more, and cost a training; what they give can still be quantised.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from towline.optimize.base import Chain, Pass
from towline.optimize.distill import Distill
from towline.optimize.equalise import Equalise
from towline.optimize.fusion import Fuse
from towline.optimize.graph import Half, Slim
from towline.optimize.offline import offlines
from towline.optimize.prune import Prune, prunings
from towline.optimize.qat import quantisation_trainings
from towline.optimize.qdq import Calibration
from towline.optimize.quantize import DynamicInt8, Int8, reduces_range
from towline.optimize.rounding import Round
from towline.optimize.sensitivity import Sensitivity, guiltiest
from towline.optimize.shapes import FixShape
from towline.optimize.train import sparsities
from towline.optimize.training.settings import Training
from towline.optimize.weight_only import weights_only

_RANGES: tuple[Calibration, ...] = ("minmax", "percentile", "entropy")
# How many of the guiltiest operators stay in float, one step after another.
STEPS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
# Measured side by side, a few per cent are noise.
FASTER = 1.05
AS_FAST = 0.97
SMALLER = 0.9
# Among those that come so near to the fastest, it is not speed that decides: two runs on one machine then choose the same.
NEAR = 0.9
# A tenth of a point, of a share.
GRAIN = 0.001


@dataclass(frozen=True)
class Tried:
    """A chain of passes and what came of it. `fits`: the gates said yes. `speedup` and `size_ratio` are against the version it came from;
    `speedup_sure` is what three turns in four of the timing reached. `agreement` is the share of rows whose first class stays, None where
    there are no classes; losses closer than `grain` are alike; `notes` and `curves` are what its passes told (optimize/base.py: Passed)."""

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
    grain: float = GRAIN

    def grains(self, of: float = 1.0) -> float:
        """The drop in grains, or in so fine a part of them, as a whole number."""
        return float(np.rint(self.drop / (self.grain * of)))

    @property
    def is_worth_it(self) -> bool:
        """Right, and faster here, or as fast and smaller."""
        return self.fits and (self.speedup_sure >= FASTER or (self.speedup >= AS_FAST and self.size_ratio <= SMALLER))


@dataclass(frozen=True)
class Situation:
    """What a search starts from. `cpu` is as core/cpu.py tells it. Where there are rows to train on, `training` says how it is done, and
    `students` are those worth teaching for this graph. `only` are the names of the passes that may be used; all where it is empty."""

    cpu: str
    training: Training | None = None
    students: tuple[Pass, ...] = ()
    seed: int = 0
    only: frozenset[str] = frozenset()

    @property
    def can_train(self) -> bool:
        return self.training is not None

    def may(self, chain: Chain) -> bool:
        return not self.only or all(one.name in self.only for one in chain.passes)

    @property
    def int8(self) -> Int8:
        """Static int8 as this processor multiplies it."""
        return Int8(reduce_range=reduces_range(self.cpu))


def first_chains(situation: Situation) -> tuple[Chain, ...]:
    """What is always tried and trains nothing. Dynamic int8, float16 and weights alone as well, although they seldom pay: it is measured,
    not believed."""
    whole = situation.int8
    static = [Chain((replace(whole, calibration=how),)) for how in _RANGES]
    alone: tuple[Pass, ...] = (DynamicInt8(reduce_range=whole.reduce_range), Half(), *weights_only())
    # One saves the time of a load, which is no gain that is judged here; the other what ONNX Runtime mostly fuses by itself.
    named: dict[str, tuple[Pass, ...]] = {"offline": offlines(situation.cpu), Fuse.name: (Fuse(),), FixShape.name: (FixShape(),)}
    asked = [one for name, passes in named.items() if name in situation.only for one in passes]
    prepared = (Chain((Equalise(), whole)), Chain((Equalise(), Round(bits=7 if whole.reduce_range else 8), whole)))
    return (Chain((Slim(),)), *static, *prepared, *(Chain((one,)) for one in (*alone, *asked)))


def taught_chains(situation: Situation) -> tuple[Chain, ...]:
    """What is trained: channels taken out, and students, in turn, the likeliest of both first."""
    if situation.training is None:
        return ()
    pruned = prunings(situation.training)
    turns: Iterable[tuple[Pass | None, ...]] = itertools.zip_longest(pruned, situation.students)
    # Zeros here and there save nothing that is judged here: only a compressed file is smaller.
    asked = sparsities(situation.training) if "sparse" in situation.only else ()
    return tuple(Chain((one,)) for turn in (*turns, asked) for one in turn if one is not None)


def known_names() -> tuple[str, ...]:
    """The names of all passes that a search may be told to keep to."""
    return tuple(dict.fromkeys(one.name for one in _all_passes()))


def trained_names() -> frozenset[str]:
    """Those of the passes that train, and so need rows to train on."""
    return frozenset(one.name for one in _all_passes() if one.environment == "torch")


def _all_passes() -> tuple[Pass, ...]:
    whole = Situation("", Training(), (Distill(),), only=frozenset({"offline", Fuse.name, FixShape.name, "sparse"}))
    chains = (*first_chains(whole), *taught_chains(whole), *(Chain((one,)) for one in quantisation_trainings()))
    return tuple(one for chain in chains for one in chain.passes)


def wants_sensitivity(tried: Sequence[Tried]) -> bool:
    """Whether no static int8 fits although one would be worth it."""
    static = _static(tried)
    return bool(static) and not any(one.fits for one in static) and any(one.speedup > 1 for one in static)


def best_int8(tried: Sequence[Tried]) -> Chain | None:
    """The static int8 that lost least, by which what comes of other passes is quantised too; None where none ran."""
    ran = [one for one in _static(tried) if one.speedup > 0]
    # Of equals the first: they are as fast as one another, and the clock must not choose what everything after is built on.
    best = min(ran, key=lambda one: one.grains(0.1), default=None)
    return best.tried if best is not None else None


def mixed(best: Chain, guilty: Sequence[Sensitivity]) -> tuple[Chain, ...]:
    """Static int8 with ever more of the guiltiest operators in float, the fewest first."""
    order = [one.operator for one in guiltiest(guilty)]
    counts = dict.fromkeys(count for count in STEPS if count < len(order))
    int8 = best.last
    assert isinstance(int8, Int8)
    return tuple(Chain((*best.passes[:-1], replace(int8, floats=tuple(order[:count])))) for count in counts)


def rescued(tried: Sequence[Tried], situation: Situation) -> tuple[Chain, ...]:
    """Where static int8 would be faster and loses too much: the same, trained with its roundings in place."""
    best = best_int8(tried)
    if situation.training is None or best is None or any(one.fits for one in tried if isinstance(one.tried.last, Int8)):
        return ()
    return tuple(best.then(replace(one, training=replace(one.training, seed=situation.seed))) for one in quantisation_trainings())


def quantised(tried: Sequence[Tried]) -> tuple[Chain, ...]:
    """What was trained and is worth it, quantised as the version itself lost least by."""
    best = best_int8(tried)
    if best is None:
        return ()
    trained = [one.tried for one in tried if one.is_worth_it and isinstance(one.tried.last, Prune | Distill)]
    return tuple(Chain((*chain.passes, *best.passes)) for chain in trained)


def chosen(tried: Sequence[Tried]) -> Tried | None:
    """The fastest of those that are worth it, and of those as fast the one that loses least, then the smallest; None when none is."""
    worth = [one for one in tried if one.is_worth_it]
    fastest = max((one.speedup for one in worth), default=0.0)
    near = [one for one in worth if one.speedup >= NEAR * fastest]
    return min(near, key=lambda one: (max(one.grains(), 0.0), round(one.size_ratio, 2), len(one.tried.passes)), default=None)


def front(tried: Sequence[Tried]) -> tuple[Tried, ...]:
    """Those that no other beats in both speed and loss (Pareto), the fastest last. What failed is not among them."""
    ran = sorted((one for one in tried if one.speedup > 0), key=lambda one: (one.drop, -one.speedup))
    kept: list[Tried] = []
    for one in ran:
        if not kept or one.speedup > kept[-1].speedup:
            kept.append(one)
    return tuple(kept)


def _static(tried: Sequence[Tried]) -> list[Tried]:
    """Static int8 of the version itself, every operator that gains by it; nothing trained."""
    return [
        one
        for one in tried
        if isinstance(one.tried.last, Int8) and not one.tried.last.floats and not any(each.environment for each in one.tried.passes)
    ]
