"""How much of each layer goes, given what each costs: tables."""

from __future__ import annotations

import pytest

from towline.optimize.sharing import MOST, SHARES, Work, reached, shared, width_of

CHEAP, DEAR = (0.0, 0.1, 0.2, 0.4), (1.0, 2.0, 4.0, 8.0)


def chain(*names: str) -> tuple[Work, ...]:
    """Layers one after another, of a hundred multiply-adds each: every one reads what the one before made."""
    return tuple(Work(100, name, ((before, 1.0),) if before else ()) for before, name in zip(("", *names), (*names, ""), strict=True))


def left(works: tuple[Work, ...], kept: dict[str, int], count: int = 100) -> float:
    return sum(work.without({name: 1 - one / count for name, one in kept.items()}) for work in works)


def share_out(rises: dict[str, tuple[float, ...]], ratio: float, multiple: int = 1) -> dict[str, int]:
    """Of layers of a hundred channels each."""
    return shared(rises, chain(*rises), dict.fromkeys(rises, 100), ratio=ratio, multiple=multiple)


@pytest.mark.parametrize("multiple", [1, 16])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8])
def test_no_more_multiply_adds_stay_than_if_every_layer_lost_the_same(ratio: float, multiple: int):
    kept = share_out({"a": CHEAP, "b": DEAR, "c": (0.0, 0.0, 0.1, 5.0)}, ratio, multiple)

    even = left(chain("a", "b", "c"), dict.fromkeys("abc", width_of(100, ratio, multiple)))
    assert (0.95 if multiple == 1 else 0.7) * even <= left(chain("a", "b", "c"), kept) <= even
    assert all(one % multiple == 0 or one == 100 for one in kept.values())


def test_a_layer_that_costs_more_loses_less():
    kept = share_out({"cheap": CHEAP, "dear": DEAR}, 0.4)

    assert 100 - kept["cheap"] > 2 * (100 - kept["dear"])


def test_every_layer_is_pruned_as_far_as_costs_the_same():
    kept = share_out({"a": (1.0, 2.0, 3.0, 4.0), "b": (2.0, 4.0, 6.0, 8.0)}, 0.375)

    # Within SHARES' even steps a fourth of a costs 1, and of b 2.
    assert 100 - kept["a"] == pytest.approx(2 * (100 - kept["b"]), abs=1)


def test_no_layer_is_taken_whole_however_little_it_costs():
    assert share_out({"free": (0.0, 0.0, 0.0, 0.0), "dear": DEAR}, 0.9)["free"] == round(100 * (1 - MOST))
    assert share_out({"free": (0.0,) * 4}, 0.3) == {"free": 70}


def test_what_a_layer_costs_follows_from_what_it_makes_and_what_it_reads():
    joined = Work(100, "made", (("first", 0.25), ("second", 0.75)))

    assert joined.without({}) == 100
    assert joined.without({"made": 0.5, "first": 1.0, "second": 0.2}) == pytest.approx(100 * 0.5 * 0.6)


@pytest.mark.parametrize(
    ("rises", "tolerance", "share"),
    [
        (DEAR, 0.0, 0.0),
        (DEAR, 0.5, 0.125),
        (DEAR, 1.0, 0.25),
        (DEAR, 3.0, 0.625),
        (DEAR, 99.0, MOST),
        # A rise that falls again is noise: what comes after is no better than what came before.
        ((1.0, -3.0, 1.5, 8.0), 0.9, 0.225),
        ((-1.0, -1.0, -1.0, -1.0), 0.0, MOST),
    ],
)
def test_between_two_measured_shares_the_rise_is_a_straight_line(rises: tuple[float, ...], tolerance: float, share: float):
    assert len(rises) == len(SHARES)
    assert reached(rises, tolerance) == pytest.approx(share)


@pytest.mark.parametrize(
    ("channels", "ratio", "multiple", "width"),
    [
        (64, 0.5, 8, 32),
        (64, 0.6, 8, 24),
        (64, 0.6, 16, 32),
        (64, 0.45, 8, 32),
        (64, 0.99, 8, 8),
        (64, 0.0, 8, 64),
        # Too few to be kept to a multiple.
        (10, 0.5, 8, 5),
        (3, 0.9, 1, 1),
        (20, 0.01, 8, 20),
    ],
)
def test_widths_are_the_nearest_multiples(channels: int, ratio: float, multiple: int, width: int):
    assert width_of(channels, ratio, multiple) == width
