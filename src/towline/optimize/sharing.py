"""Share out how much is pruned among layers, by what each costs: every layer is pruned as far as costs the same loss. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# How much of a layer is taken away when its sensitivity is measured, and the most that is ever taken.
SHARES = (0.25, 0.5, 0.75, 0.9)
MOST = SHARES[-1]
_ROUNDS = 60


@dataclass(frozen=True)
class Work:
    """What a layer costs, and whose channels decide about it: `makes` names the group that it makes, empty where none may go; `reads` are
    the groups that it reads, each with its share of the layer's inputs."""

    multiply_adds: int
    makes: str = ""
    reads: tuple[tuple[str, float], ...] = ()

    def without(self, ratios: Mapping[str, float]) -> float:
        """The multiply-adds that stay."""
        read = 1 - sum(share * ratios.get(name, 0.0) for name, share in self.reads)
        return self.multiply_adds * (1 - ratios.get(self.makes, 0.0)) * read


def shared(
    rises: Mapping[str, Sequence[float]], works: Sequence[Work], channels: Mapping[str, int], *, ratio: float, multiple: int
) -> dict[str, int]:
    """How many channels of each group stay, so that no more multiply-adds stay than if every group lost `ratio`.

    `rises` are the rises of the loss when a group alone loses SHARES of its `channels`. What costs nothing goes first, and no group loses
    more than MOST. Widths are as `width_of` gives them.
    """

    def left(kept: Mapping[str, int]) -> float:
        ratios = {name: 1 - one / channels[name] for name, one in kept.items()}
        return sum(work.without(ratios) for work in works)

    def along(way: float) -> dict[str, int]:
        """From nothing, by what is free, to all that may go."""
        scale, tolerance = min(1.0, 2 * way), max(0.0, 2 * way - 1) * dearest
        return {name: width_of(channels[name], scale * reached(one, tolerance), multiple) for name, one in rises.items()}

    wanted = left({name: width_of(channels[name], ratio, multiple) for name in rises})
    dearest = max((max(one) for one in rises.values()), default=0.0)
    low, high = 0.0, 1.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (low, middle) if left(along(middle)) <= wanted else (middle, high)
    return along(high)


def reached(rises: Sequence[float], tolerance: float) -> float:
    """The largest share whose rise, between those measured a straight line, is within the tolerance."""
    share, before = 0.0, 0.0
    for next_share, rise in zip(SHARES, rises, strict=True):
        # More channels less cannot be better: what says so is noise.
        after = max(rise, before)
        if after > tolerance:
            return share + (next_share - share) * (tolerance - before) / (after - before)
        share, before = next_share, after
    return share


def width_of(channels: int, ratio: float, multiple: int) -> int:
    """How many channels stay: at least one, and the nearest multiple where there are at least two of these.

    ONNX Runtime computes convolutions in blocks of 16 channels with AVX-512 and on ARM, of 8 with AVX2: 20 of them cost what 32 do.
    """
    wanted = max(1, round(channels * (1 - ratio)))
    if multiple > 1 and channels >= 2 * multiple:
        return min(channels, max(1, int(wanted / multiple + 0.5)) * multiple)
    return wanted
