"""The routing table: nothing that answers is given up before its successor is ready."""

from __future__ import annotations

import itertools

import pytest

from towline.core.errors import NotFound, TowlineError, Unavailable
from towline.serve.router import Served, WantedModel, WantedVersion, find, next_table, to_drain


def wanted(*numbers: int, default: int | None = None, labels: dict[str, int] | None = None, name: str = "m") -> WantedModel:
    versions = tuple(WantedVersion(name, number, f"sha256:{number}", "/nowhere") for number in numbers)
    return WantedModel(name, versions, default if default is not None else max(numbers, default=None), labels or {})


def ready(*numbers: int, name: str = "m") -> dict[tuple[str, int], str]:
    return {(name, number): f"{name}:{number}" for number in numbers}


@pytest.mark.parametrize(
    ("model", "answering", "served", "default"),
    [
        (wanted(1), (1,), {1}, 1),
        (wanted(2), (1, 2), {2}, 2),
        # The successor is not ready: the old one goes on answering, also for a bare name.
        (wanted(2), (1,), {1}, 1),
        (wanted(3), (1, 2), {1, 2}, 2),
        # Of several that are wanted one is missing: those that will go stay, and stand in for the default.
        (wanted(2, 3), (1, 2), {1, 2}, 1),
        (wanted(2, 3), (1, 3), {1, 3}, 3),
        (wanted(2, 3), (1, 2, 3), {2, 3}, 3),
        # Going back to an older one.
        (wanted(1), (1, 2), {1}, 1),
        (wanted(1), (2,), {2}, 2),
        # Two wanted, the default chosen is the older one.
        (wanted(1, 2, default=1), (1, 2), {1, 2}, 1),
        (wanted(1, 2, default=1), (2,), {2}, 2),
    ],
)
def test_the_table_follows_the_wish_as_far_as_what_is_ready_allows(
    model: WantedModel, answering: tuple[int, ...], served: set[int], default: int
) -> None:
    entry = next_table([model], ready(*answering))["m"]

    assert (set(entry.slots), entry.default) == (served, default)


def test_a_model_with_nothing_ready_has_no_entry_and_others_are_not_touched() -> None:
    table = next_table([wanted(1), wanted(1, name="other")], ready(1, name="other"))

    assert set(table) == {"other"}


def test_a_model_nobody_wants_any_more_has_no_entry() -> None:
    assert next_table([], ready(1, 2)) == {}


def test_whatever_is_wanted_and_ready_something_ready_answers_a_bare_name() -> None:
    for numbers in itertools.chain.from_iterable(itertools.combinations((1, 2, 3), size) for size in (1, 2, 3)):
        for there in itertools.chain.from_iterable(itertools.combinations((1, 2, 3), size) for size in (1, 2, 3)):
            model = wanted(*numbers)
            table = next_table([model], ready(*there))
            assert find(table, {"m": model}, "m") in ready(*there).values(), (numbers, there)


@pytest.mark.parametrize(
    ("model", "answering", "existing", "drained"),
    [
        (wanted(2), (1, 2), (1, 2), {1}),
        # Not before the successor is ready.
        (wanted(2), (1,), (1, 2), set()),
        (wanted(2, 3), (1, 2), (1, 2, 3), set()),
        (wanted(1), (1,), (1, 2, 3), {2, 3}),
    ],
)
def test_slots_are_drained_when_neither_wish_nor_table_needs_them(
    model: WantedModel, answering: tuple[int, ...], existing: tuple[int, ...], drained: set[int]
) -> None:
    table = next_table([model], ready(*answering))

    assert {number for _, number in to_drain([model], table, [("m", number) for number in existing])} == drained


TABLE = {"m": Served({1: "m:1", 2: "m:2"}, 2, {"stable": 1, "next": 3})}
WANTED = {"m": wanted(1, 2, 3), "loading": wanted(1, name="loading")}


@pytest.mark.parametrize(
    ("asked", "answer"),
    [({}, "m:2"), ({"number": 1}, "m:1"), ({"label": "stable"}, "m:1"), ({"number": 2}, "m:2")],
)
def test_a_name_a_number_and_a_label_each_find_their_slot(asked: dict[str, object], answer: str) -> None:
    assert find(TABLE, WANTED, "m", **asked) == answer  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "asked", "kind", "code"),
    [
        ("nobody", {}, NotFound, "MODEL_NOT_FOUND"),
        ("loading", {}, Unavailable, "MODEL_NOT_READY"),
        ("m", {"number": 9}, NotFound, "VERSION_NOT_FOUND"),
        ("m", {"number": 3}, Unavailable, "VERSION_NOT_READY"),
        ("m", {"label": "next"}, Unavailable, "VERSION_NOT_READY"),
        ("m", {"label": "none"}, NotFound, "LABEL_NOT_FOUND"),
    ],
)
def test_what_cannot_answer_is_told_apart_from_what_is_not_there(name: str, asked: dict[str, object], kind: type, code: str) -> None:
    with pytest.raises(TowlineError) as refused:
        find(TABLE, WANTED, name, **asked)  # type: ignore[arg-type]

    assert (type(refused.value), refused.value.code) == (kind, code)


def test_an_unknown_name_is_repeated_no_longer_than_is_useful() -> None:
    with pytest.raises(NotFound) as refused:
        find({}, {}, "x" * 10_000)

    assert len(refused.value.message) < 200
