"""Bounds on figures: how they are written, and that nothing passes unmeasured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from towline.core.errors import UsageError
from towline.verify.gates import gate, read_gates, verdicts


@pytest.mark.parametrize(
    ("bound", "value", "passes"),
    [
        (">= 0.97", 0.97, True),
        (">= 0.97", 0.9699, False),
        ("<= 0.5pt", 0.005, True),
        ("<= 0.5pt", 0.0051, False),
        ("> 95 %", 0.951, True),
        ("== 1", 1.0, True),
        (1, 1.0, True),
        ("<= 5", math.nan, False),
    ],
)
def test_a_figure_is_held_to_its_bound(bound: object, value: float, passes: bool):
    assert verdicts([gate("figure", bound)], {"figure": value})[0].passed is passes


@pytest.mark.parametrize("bound", ["", "0.97 >=", ">= much", True, None, ">= 1e999", ["a"]])
def test_what_is_no_bound_is_refused_by_name(bound: object):
    with pytest.raises(UsageError, match="Gate 'accuracy'"):
        gate("accuracy", bound)


def test_a_file_of_gates_is_a_table(tmp_path: Path):
    (tmp_path / "gates.toml").write_text('[gates]\naccuracy = ">= 0.9"\np99_ms = "< 5"\n')

    assert [str(one) for one in read_gates(tmp_path / "gates.toml")] == ["accuracy >= 0.9", "p99_ms < 5"]


@pytest.mark.parametrize("content", ["", "gates = 3", "[gates]", "[gates]\naccuracy = ", "[gates]\naccuracy = []"])
def test_a_file_that_holds_no_gates_is_refused(tmp_path: Path, content: str):
    (tmp_path / "gates.toml").write_text(content)

    with pytest.raises(UsageError):
        read_gates(tmp_path / "gates.toml")


def test_a_verdict_is_plain_json_and_what_is_not_finite_is_null():
    found = verdicts([gate("accuracy", ">= 0.9"), gate("drop", "<= 0.005")], {"accuracy": 0.95, "drop": math.nan})

    assert [one.as_json() for one in found] == [
        {"gate": "accuracy >= 0.9", "value": 0.95, "passed": True},
        {"gate": "drop <= 0.005", "value": None, "passed": False},
    ]
