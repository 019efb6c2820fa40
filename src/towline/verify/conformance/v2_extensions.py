"""Triton's extensions of the Open Inference Protocol: asked only of servers that name them."""

from __future__ import annotations

from typing import Any

from towline.verify.conformance.checks import Skipped, Suite, expect, expect_equal
from towline.verify.conformance.target import HALVES, Target
from towline.verify.conformance.v2_rest import HALVED, INFER, expect_error, outputs_of, tensor

SUITE = Suite("v2-extensions")
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


def _needs(target: Target, extension: str) -> None:
    if extension not in (target.get("/v2").json() or {}).get("extensions", ()):
        raise Skipped(f"{extension} is not among the server's extensions")


@SUITE.must("classification", "The output parameter classification gives BYTES `value:index` of the best classes.")
def _classification(target: Target) -> None:
    _needs(target, "classification")
    wanted = [{"name": "y", "parameters": {"classification": 1}}]
    (output,) = outputs_of(target.post(INFER, {"inputs": [tensor()], "outputs": wanted}))
    expect_equal(output["datatype"], "BYTES")
    best = [tuple(one.split(":")[:2]) for one in output["data"]]
    expect_equal([(float(value), index) for value, index in best], [(3.0, "1"), (4.5, "1")])


@SUITE.must("priority-and-timeout", "priority and timeout are taken as parameters of a request.")
def _schedule(target: Target) -> None:
    _needs(target, "schedule_policy")
    (output,) = outputs_of(target.post(INFER, {"inputs": [tensor()], "parameters": {"priority": 1, "timeout": 10_000_000}}))
    expect_equal(output["data"], HALVED)


def _statistics(target: Target) -> dict[str, Any]:
    (found,) = target.get(f"/v2/models/{HALVES}/stats").json()["model_stats"]
    return dict(found)


@SUITE.must("statistics", "Statistics tell counts and durations in nanoseconds, and count what was asked.")
def _stats(target: Target) -> None:
    _needs(target, "statistics")
    outputs_of(target.post(INFER, {"inputs": [tensor()]}))
    before = _statistics(target)
    outputs_of(target.post(INFER, {"inputs": [tensor()]}))
    after = _statistics(target)
    expect_equal(after["name"], HALVES)
    for name in _DURATIONS:
        expect(set(after["inference_stats"][name]) == {"count", "ns"}, f"{name}: count and ns", after["inference_stats"].get(name))
    expect_equal(after["inference_count"] - before["inference_count"], 2)
    expect_equal(after["execution_count"] - before["execution_count"], 1)
    expect_equal(after["inference_stats"]["success"]["count"] - before["inference_stats"]["success"]["count"], 1)


@SUITE.must("statistics-of-all", "GET /v2/models/stats lists all models.")
def _all_stats(target: Target) -> None:
    _needs(target, "statistics")
    names = [one["name"] for one in target.get("/v2/models/stats").json()["model_stats"]]
    expect(HALVES in names, f"{HALVES} among the models", names)


@SUITE.must("configuration", "GET /v2/models/M/config tells inputs and outputs in Triton's words.")
def _config(target: Target) -> None:
    _needs(target, "model_configuration")
    found = target.get(f"/v2/models/{HALVES}/config").json()
    expect_equal(found["name"], HALVES)
    expect_equal([(one["name"], one["data_type"]) for one in found["input"]], [("x", "TYPE_FP32")])
    expect_equal([(one["name"], one["data_type"]) for one in found["output"]], [("y", "TYPE_FP32")])


@SUITE.must("repository-index", "POST /v2/repository/index lists models with their state.")
def _index(target: Target) -> None:
    _needs(target, "model_repository")
    found = target.post("/v2/repository/index", {}).json()
    states = {one["name"]: one.get("state") for one in found}
    expect_equal(states.get(HALVES), "READY")


@SUITE.must("repository-unknown-model", "Loading a model that does not exist is an error.")
def _load(target: Target) -> None:
    _needs(target, "model_repository")
    expect_error(target.post("/v2/repository/models/no_such_model/load", {}), 400, 403, 404)
