"""What must be reached, and whether a figure reaches it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

# A run fails beyond this factor of a goal; between the two, the machine's noise and real misses look alike, so it only says "missed".
FAILS_BEYOND = 2.0


@dataclass(frozen=True)
class Goal:
    """`key` names a figure; it shall be at most or at least `limit` of `unit`."""

    key: str
    what: str
    direction: Literal["<=", ">="]
    limit: float
    unit: str


@dataclass(frozen=True)
class Verdict:
    goal: Goal
    figure: float | None
    word: Literal["reached", "missed", "FAILED", "not measured"]


GOALS = (
    Goal("cpu_ratio_64", "CPU per request against the bare server, 64 clients", "<=", 1.35, "x"),
    Goal("cpu_ratio_8", "CPU per request against the bare server, 8 clients", "<=", 1.7, "x"),
    Goal("cpu_ratio_1", "CPU per request against the bare server, 1 client", "<=", 1.6, "x"),
    Goal("fastapi_cpu_64", "FastAPI's CPU per request against ours, 64 clients", ">=", 15, "x"),
    Goal("best_peer_rate_64", "requests/s against the best untuned peer, 64 clients", ">=", 8, "x"),
    Goal("p50_us_1", "p50 at 1 client", "<=", 160, "us"),
    Goal("grpc_cpu_64", "gRPC: CPU per call against grpc.aio with a plain handler, 64 clients", "<=", 1.0, "x"),
    Goal("grpc_native_64", "gRPC: that handler's CPU per call against `--grpc native`, 64 clients", ">=", 5, "x"),
    Goal("image_rate", "MobileNetV2, 8 clients: requests/s against raw ONNX Runtime on all cores", ">=", 0.95, "x"),
    Goal("image_cpu", "MobileNetV2, 8 clients: CPU per request against raw ONNX Runtime", "<=", 1.06, "x"),
    Goal("failed", "requests that failed", "<=", 0, ""),
    Goal("first_answer_ratio", "`towline serve model.onnx` to first answer against plain onnxruntime", "<=", 4, "x"),
    Goal("overload_goodput", "ten times the load, each with a second to wait: answered in time, of the capacity", ">=", 0.9, "x"),
    Goal("overload_recovery_s", "ten times the load: last answer after it ends", "<=", 10, "s"),
    Goal("overload_memory_mib", "ten times the load: the front's memory", "<=", 64, "MiB more"),
    Goal("overload_lost", "ten times the load: requests without an answer", "<=", 0, ""),
    Goal("bystander_ratio", "a bystander's p99 while 500 MB of another model come and go, against its quiet p99", "<=", 1.25, "x"),
    Goal("large_json_p99_ms", "a bystander's p99 while a client posts 56 MiB of wrong JSON again and again", "<=", 50, "ms"),
    Goal("help_cpu_ms", "`towline --help`", "<=", 120, "ms CPU"),
    Goal("ls_cpu_ms", "`towline ls`", "<=", 120, "ms CPU"),
    Goal("ps_cpu_ms", "`towline ps`", "<=", 120, "ms CPU"),
    Goal("ls_10000_cpu_ms", "`towline ls` with 10,000 versions in the store", "<=", 120, "ms CPU"),
)

# Of `make bench-peers`: against the best of all peers, each as it starts and with its batching tuned.
PEER_GOALS = (
    Goal("tuned_rate_64", "requests/s against the best peer with batching, 64 clients", ">=", 2.5, "x"),
    Goal("untuned_rate_64", "requests/s against the best peer without, 64 clients", ">=", 8, "x"),
    Goal("best_cpu_64", "the cheapest peer's CPU per request against ours, 64 clients", ">=", 1, "x"),
    Goal("best_cpu_1", "the cheapest peer's CPU per request against ours, 1 client", ">=", 1, "x"),
    Goal("best_p50_1", "the fastest peer's p50 against ours, 1 client", ">=", 1, "x"),
    Goal("failed", "requests that failed", "<=", 0, ""),
)

# Of `make bench-optimize`: a network for MNIST and what is made of it, one thread, 64 rows a run.
OPTIMIZE_GOALS = (
    Goal("int8_faster", "static int8: speed", ">=", 1.5, "x"),
    Goal("int8_lost", "static int8: accuracy lost", "<=", 0.3, "points"),
    Goal("pruned_faster", "structured pruning and fine-tuning: speed", ">=", 3, "x"),
    Goal("pruned_lost", "structured pruning and fine-tuning: accuracy lost", "<=", 0.5, "points"),
    Goal("student_faster", "distilled student: speed", ">=", 6, "x"),
    Goal("few_labels_gain", "distilled with 1,000 labels against those labels alone: gain, lower end of 95 %", ">=", 0, "points"),
    Goal("qat_lost", "quantisation-aware training: accuracy lost", "<=", 0.3, "points"),
    Goal("best_faster", "the best combination: speed", ">=", 6, "x"),
    Goal("best_lost", "the best combination: accuracy lost", "<=", 0.5, "points"),
)


def verdicts(figures: Mapping[str, float], goals: Sequence[Goal] = GOALS) -> list[Verdict]:
    return [Verdict(goal, figures.get(goal.key), _word(goal, figures.get(goal.key))) for goal in goals]


def has_failed(found: list[Verdict]) -> bool:
    return any(verdict.word == "FAILED" for verdict in found)


def _word(goal: Goal, figure: float | None) -> Literal["reached", "missed", "FAILED", "not measured"]:
    if figure is None:
        return "not measured"
    if goal.direction == "<=":
        return "reached" if figure <= goal.limit else "missed" if figure <= goal.limit * FAILS_BEYOND else "FAILED"
    return "reached" if figure >= goal.limit else "missed" if figure >= goal.limit / FAILS_BEYOND else "FAILED"
