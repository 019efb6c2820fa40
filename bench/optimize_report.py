"""Turn what `make bench-optimize` measured into figures, a JSON document, and tables in two languages. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

import report
from goals import Verdict
from side_by_side import Ratio

SCHEMA = "towline.bench-optimize/1"
START, END = "<!-- figures: written by make bench-optimize -->", "<!-- end of figures -->"
# Of the best combination, in points.
MOST_LOST = 0.5
Language = Literal["en", "zh"]
# Student's t for an interval of 95 %, by degrees of freedom.
_T = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
_NORMAL = 1.96
_WORDS = {
    "en": {
        "head": "| | times faster | KB | accuracy | lost, in points (95 %) | made in |",
        "base": "the network",
        "few": "With {labels:,} labels and {rest:,} rows without, over {count} seeds: the student taught by the network gets "
        "**{taught:.2f} %** right, the same one trained on the labels alone {alone:.2f} %. "
        "It gains {gain:.2f} points (95 %: {low:.2f} to {high:.2f}).",
    },
    "zh": {
        "head": "| | 加速倍数 | KB | 准确率 | 损失的百分点（95 %） | 用时 |",
        "base": "原网络",
        "few": "{labels:,} 个标签、{rest:,} 行无标签数据、{count} 个种子：由原网络教出的学生准确率 **{taught:.2f} %**，"
        "只用这些标签训练的同一学生 {alone:.2f} %；提高 {gain:.2f} 个百分点（95 %：{low:.2f} 至 {high:.2f}）。",
    },
}


@dataclass(frozen=True)
class Interval:
    """A mean and its interval of 95 %."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """One variant. `lost` is in points, on the same digits as the network."""

    key: str
    names: Mapping[Language, str]
    passes: Sequence[str]
    faster: Ratio
    size_bytes: int
    accuracy: float
    lost: Interval
    seconds: float


@dataclass(frozen=True)
class Few:
    """The shares that two students of one seed get right."""

    seed: int
    taught: float
    alone: float


@dataclass(frozen=True)
class Measured:
    """One run. `accuracy`, `size_bytes` and `milliseconds` (per run of `batch` rows) are the network's own."""

    machine: Mapping[str, Any]
    accuracy: float
    size_bytes: int
    milliseconds: float
    batch: int
    rows: Sequence[Row]
    few: Sequence[Few]
    labels: int
    unlabelled: int


def lost(before: np.ndarray, after: np.ndarray) -> Interval:
    """Points of accuracy lost, from who was right about the same rows before and after: the mean of paired differences."""
    apart = 100.0 * (before.astype(np.float64) - after)
    mean, half = float(apart.mean()), _NORMAL * float(apart.std(ddof=1)) / math.sqrt(len(apart))
    return Interval(mean, mean - half, mean + half)


def gain(few: Sequence[Few]) -> Interval:
    """Points that the teacher is worth, over seeds."""
    apart = [100 * (one.taught - one.alone) for one in few]
    mean, half = statistics.mean(apart), _T[len(apart) - 1] * statistics.stdev(apart) / math.sqrt(len(apart))
    return Interval(mean, mean - half, mean + half)


def best_combination(rows: Sequence[Row]) -> Row | None:
    """The fastest of several techniques together that loses half a point at most; where none does, the one that loses least."""
    combined = [row for row in rows if len(row.passes) > 1]
    within = [row for row in combined if row.lost.mean <= MOST_LOST]
    return max(within, key=lambda row: row.faster.median) if within else min(combined, key=lambda row: row.lost.mean, default=None)


def figures_of(measured: Measured) -> dict[str, float]:
    """By the keys of goals; what was not measured is absent."""
    found = {}
    for row in measured.rows:
        found[f"{row.key}_faster"], found[f"{row.key}_lost"] = row.faster.median, row.lost.mean
    best = best_combination(measured.rows)
    if best is not None:
        found["best_faster"], found["best_lost"] = best.faster.median, best.lost.mean
    if len(measured.few) > 1:
        found["few_labels_gain"] = gain(measured.few).low
    return found


def as_json(measured: Measured, found: Sequence[Verdict]) -> dict[str, Any]:
    verdicts = [{**asdict(one.goal), "figure": one.figure, "verdict": one.word} for one in found]
    return {"schema": SCHEMA, **asdict(measured), "figures": figures_of(measured), "verdicts": verdicts}


def as_markdown(measured: Measured, found: Sequence[Verdict]) -> str:
    how = [f"- {row.names['en']}: {'; then '.join(row.passes)}" for row in measured.rows]
    blocks = [page_table(measured, "en"), "How each was made:", "\n".join(how), "\n".join(report.verdict_table(found))]
    return "\n\n".join(blocks) + "\n"


def page_table(measured: Measured, language: Language) -> str:
    words = _WORDS[language]
    lines = [words["head"], "|---|--:|--:|--:|--:|--:|"]
    lines.append(f"| {words['base']} | 1 | {measured.size_bytes / 1000:.0f} | {100 * measured.accuracy:.2f} % | - | - |")
    lines += [f"| {row.names[language]} | {_cells(row)} |" for row in measured.rows]
    return "\n".join([*lines, "", *_few(measured, language), report.dateline(measured.machine)])


def _cells(row: Row) -> str:
    faster = f"**{row.faster.median:.1f}** ({row.faster.low:.1f} to {row.faster.high:.1f})"
    points = f"{row.lost.mean:.2f} ({row.lost.low:.2f} to {row.lost.high:.2f})"
    return f"{faster} | {row.size_bytes / 1000:.0f} | {100 * row.accuracy:.2f} % | {points} | {row.seconds:.0f} s"


def _few(measured: Measured, language: Language) -> Iterator[str]:
    if len(measured.few) > 1:
        found = gain(measured.few)
        shares = {
            "taught": 100 * statistics.mean(one.taught for one in measured.few),
            "alone": 100 * statistics.mean(one.alone for one in measured.few),
        }
        counts = {"labels": measured.labels, "rest": measured.unlabelled, "count": len(measured.few)}
        yield _WORDS[language]["few"].format(**counts, **shares, gain=found.mean, low=found.low, high=found.high)
        yield ""
