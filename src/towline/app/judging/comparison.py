"""What a comparison of two versions found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from towline.app.judging.compared_figures import Figure, class_json
from towline.app.judging.judge import number
from towline.core.version import Version
from towline.verify.gates import Verdict
from towline.verify.layers import GuiltyLayer
from towline.verify.metrics.by_class import ClassDifference
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.difference import McNemar
from towline.verify.metrics.named import Metric
from towline.verify.metrics.regression import Regressed
from towline.verify.pace import Pace, throughput_ratios

# Of a thousand classes nobody reads all; those that were lost the most surely come first.
MOST_CLASSES = 20


@dataclass(frozen=True)
class Comparison:
    """`worst` tells rows where the second loses most, `worst_inputs` are their inputs; `classes` are those whose recall differs, the most
    surely lost first. `found` is of both, and `metric` is what judged them, where there are labels. `verdict` is one sentence.

    Where the second was made of the first and answers otherwise, `guilty` are the layers that move the most, and `remedy` is the command
    that looks for a version which keeps what the gates ask for."""

    first: Version
    second: Version
    rows: int
    figures: Mapping[str, Figure]
    agreement: float | None
    mcnemar: McNemar | None
    paces: tuple[Pace, ...]
    worst: tuple[tuple[str, str], ...]
    verdicts: tuple[Verdict, ...]
    verdict: str
    found: tuple[Classified | Regressed, ...] = ()
    labels: tuple[str, ...] = ()
    worst_inputs: tuple[Mapping[str, np.ndarray], ...] = ()
    classes: tuple[ClassDifference, ...] = ()
    guilty: tuple[GuiltyLayer, ...] = ()
    remedy: str = ""
    metric: Metric | None = None

    @property
    def differs(self) -> bool:
        """Whether the two answer any row otherwise."""
        return self.agreement not in (None, 1.0) or any(one.difference for one in self.figures.values() if one.is_paired)

    @property
    def passed(self) -> bool:
        return all(one.passed for one in self.verdicts)

    @property
    def speedup(self) -> float | None:
        """Of one row: how many times as fast the second is."""
        return self.paces[0].p50_ms / self.paces[1].p50_ms if self.paces else None

    @property
    def throughput_ratio(self) -> float:
        return throughput_ratios(*self.paces)[0] if self.paces else float("nan")

    @property
    def throughput_sure(self) -> float:
        """What three turns in four reach."""
        return throughput_ratios(*self.paces)[1] if self.paces else float("nan")

    def as_json(self) -> dict[str, object]:
        return {
            "first": str(self.first),
            "second": str(self.second),
            "rows": self.rows,
            "metric": None if self.metric is None else self.metric.as_json(),
            "figures": {name: one.as_json() for name, one in self.figures.items()},
            "agreement": number(self.agreement),
            "mcnemar": None if self.mcnemar is None else vars(self.mcnemar),
            "speedup": number(self.speedup),
            "throughput_ratio": number(self.throughput_ratio),
            "worst": [list(one) for one in self.worst],
            "classes": [class_json(one, self.labels) for one in self.classes[:MOST_CLASSES]],
            "guilty": [vars(one) for one in self.guilty],
            "remedy": self.remedy,
            "gates": [one.as_json() for one in self.verdicts],
            "passed": self.passed,
            "verdict": self.verdict,
        }
