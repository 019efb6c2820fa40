"""Where a server says its time went: waiting or computing, from its own counters before and after. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

STATISTICS, METRICS = "v2 statistics", "/metrics"
_FAMILIES = "queue_duration_seconds|compute_duration_seconds|batch_size"
_SAMPLE = re.compile(rf"^towline_(?P<family>{_FAMILIES})_(?P<part>sum|count)\{{(?P<labels>[^}}]*)\}} (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_PARTS = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Counters:
    """A server's running totals for one model. Times in milliseconds, each with how often it was counted.

    From /metrics a wait is that of the oldest request of a batch, and a compute time that of the batch; from v2 statistics
    both are per request.
    """

    source: str
    totals_ms: dict[str, float]
    counts: dict[str, float]
    requests: float
    batches: float


@dataclass(frozen=True)
class ServerTime:
    """Means of one load, in milliseconds; `batch` is rows, or requests, to a batch.

    `compute_ms` is the engine's own; getting inputs to it and outputs from it count beside it, 0 where the server does not tell.
    """

    source: str
    queue_ms: float
    input_ms: float
    compute_ms: float
    output_ms: float
    batch: float

    @property
    def total_ms(self) -> float:
        return self.queue_ms + self.input_ms + self.compute_ms + self.output_ms


def between(before: Counters | None, after: Counters | None) -> ServerTime | None:
    """None where the server has no such counters, or they did not move, as when it was started again meanwhile."""
    if before is None or after is None or before.source != after.source or after.batches <= before.batches:
        return None

    def mean_ms(part: str) -> float:
        count = after.counts.get(part, 0) - before.counts.get(part, 0)
        return (after.totals_ms.get(part, 0.0) - before.totals_ms.get(part, 0.0)) / count if count > 0 else 0.0

    batch = (after.requests - before.requests) / (after.batches - before.batches)
    queue, given, inferred, taken = (mean_ms(part) for part in _PARTS)
    return ServerTime(after.source, queue, given, inferred, taken, batch)


def from_metrics(text: str, model: str, version: int | None = None) -> Counters | None:
    """Of Towline's /metrics; None when it has nothing of this model."""
    sums: dict[tuple[str, str], float] = {}
    for sample in _SAMPLE.finditer(text):
        labels = dict(_LABEL.findall(sample["labels"]))
        if labels.get("model") == model and (version is None or labels.get("version") == str(version)):
            key = sample["family"], sample["part"]
            sums[key] = sums.get(key, 0.0) + float(sample["value"])
    if ("batch_size", "count") not in sums:
        return None
    queue, compute = "queue_duration_seconds", "compute_duration_seconds"
    return Counters(
        METRICS,
        totals_ms={"queue": sums.get((queue, "sum"), 0.0) * 1e3, "compute_infer": sums.get((compute, "sum"), 0.0) * 1e3},
        counts={"queue": sums.get((queue, "count"), 0.0), "compute_infer": sums.get((compute, "count"), 0.0)},
        requests=sums["batch_size", "sum"],
        batches=sums["batch_size", "count"],
    )


def from_statistics(raw: bytes, model: str, version: int | None = None) -> Counters | None:
    """Of `GET /v2/models/{m}/stats`, as Triton answers it; None when it is anything else."""
    try:
        found = json.loads(raw)
        rows = [row for row in found["model_stats"] if row["name"] == model and (version is None or str(row["version"]) == str(version))]
        parts = {part: _sum(rows, part) for part in _PARTS}
        requests = sum(float(row.get("inference_count", 0)) for row in rows)
        batches = sum(float(row.get("execution_count", 0)) for row in rows)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not rows:
        return None
    return Counters(
        STATISTICS,
        totals_ms={part: total_ns / 1e6 for part, (total_ns, _) in parts.items()},
        counts={part: count for part, (_, count) in parts.items()},
        requests=requests,
        batches=batches,
    )


def _sum(rows: list[dict[str, Any]], part: str) -> tuple[float, float]:
    """Nanoseconds and how often; a counter that never moved may be left out of the answer."""
    durations = [row["inference_stats"].get(part) or {} for row in rows]
    return sum(float(one.get("ns", 0)) for one in durations), sum(float(one.get("count", 0)) for one in durations)
