"""When `make bench` is content, when it grumbles, and when it fails."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "bench" / "goals.py"


@pytest.fixture(scope="module")
def goals():
    # bench/ is no package: its files find each other when bench/run.py is started.
    spec = importlib.util.spec_from_file_location("bench_goals", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def word(goals, key: str, figure: float) -> str:
    (verdict,) = [verdict for verdict in goals.verdicts({key: figure}) if verdict.goal.key == key]
    return verdict.word


@pytest.mark.parametrize(("figure", "expected"), [(1.0, "reached"), (1.35, "reached"), (1.36, "missed"), (2.7, "missed"), (2.71, "FAILED")])
def test_what_shall_be_small_fails_only_beyond_twice_its_goal(goals, figure, expected):
    assert word(goals, "cpu_ratio_64", figure) == expected


@pytest.mark.parametrize(("figure", "expected"), [(20.0, "reached"), (15.0, "reached"), (14.9, "missed"), (7.5, "missed"), (7.4, "FAILED")])
def test_what_shall_be_large_fails_only_below_half_its_goal(goals, figure, expected):
    assert word(goals, "fastapi_cpu_64", figure) == expected


def test_a_single_failed_request_fails_the_bench(goals):
    assert word(goals, "failed", 0) == "reached"
    assert word(goals, "failed", 1) == "FAILED"


def test_what_was_not_measured_is_neither_good_nor_bad_and_is_said_so(goals):
    found = goals.verdicts({})

    assert {verdict.word for verdict in found} == {"not measured"}
    assert not goals.has_failed(found)


def test_one_failure_among_many_goals_fails_the_run(goals):
    assert goals.has_failed(goals.verdicts({"help_cpu_ms": 50, "ls_cpu_ms": 1000}))
    assert not goals.has_failed(goals.verdicts({"help_cpu_ms": 50, "ls_cpu_ms": 200}))
