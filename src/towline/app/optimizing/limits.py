"""What a version must keep to be handed over, in the unit of what judges it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from towline.core.errors import UsageError
from towline.optimize.plan import GRAIN
from towline.verify.gates import Gate
from towline.verify.metrics.named import Metric

# Of a share that judges.
HALF_A_POINT = 0.005
# Losses are alike that differ by less than this part of what may be lost.
_FINER = 5


@dataclass(frozen=True)
class Limits:
    """What a version must keep to be handed over. `max_drop` is what may be lost of the metric that judges: of accuracy as a share (0.005
    is half a point, the default), of an error in its own unit. `min_agreement` holds where there are no labels, and where it is set.
    0 sets no limit."""

    max_drop: float | None = None
    min_agreement: float = 0.0
    max_p99_ms: float = 0.0
    max_size_mb: float = 0.0

    def beside(self, metric: Metric | None) -> Limits:
        """The same with the drop that may be, where nobody asked for one. `metric` is what was asked for.

        Raises UsageError for a metric in a unit of its own, of which nobody knows what is much."""
        if self.max_drop is not None:
            return self
        if metric is not None and not metric.is_share:
            raise UsageError(
                f"{metric.name} judges, and nobody says how much of it may be lost.",
                field="max_drop",
                hint=f"Say it in the unit of {metric.name}: --max-drop 0.01",
            )
        return replace(self, max_drop=HALF_A_POINT)

    def terms(self, metric: Metric | None) -> Terms:
        """The bounds as gates; `metric` is what judges, None without labels. Raises UsageError for more than the whole of a share."""
        most = HALF_A_POINT if self.max_drop is None else self.max_drop
        share = "agreement" if metric is None else metric.name
        if most > 1 and (metric is None or metric.is_share):
            what = f"max-drop {most:g} is more than all of {share}, a share from 0 to 1."
            raise UsageError(what, field="max_drop", hint="Half a point is written 0.5pt, or 0.005.")
        agreement = self.min_agreement or (0.0 if metric is not None else 1 - most)
        wanted = [Gate("drop", "<=", most)] if metric is not None else []
        wanted += [Gate("agreement", ">=", agreement)] if agreement else []
        wanted += [Gate("p99_ms", "<=", self.max_p99_ms)] if self.max_p99_ms else []
        wanted += [Gate("size_mb", "<=", self.max_size_mb)] if self.max_size_mb else []
        return Terms((*wanted, Gate("not_finite_rows", "<=", 0)), metric, most)


@dataclass(frozen=True)
class Terms:
    """By what candidates are judged; `metric` is None without labels."""

    gates: Sequence[Gate]
    metric: Metric | None
    max_drop: float

    @property
    def grain(self) -> float:
        """Losses closer than this are alike."""
        is_own_unit = self.metric is not None and not self.metric.is_share
        return self.max_drop / _FINER if is_own_unit and self.max_drop else GRAIN
