"""How good a version's answers stay when its rows are disturbed: by noise, blur, light and compression, or up its own gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from towline.app.judging.attacking import attacked
from towline.core.version import Version
from towline.verify.accuracy import Reading, answer_all, figures_of, judged
from towline.verify.contract import Runner
from towline.verify.data.dataset import DataSet
from towline.verify.metrics.named import Metric
from towline.verify.robustness import corrupted, corruptions

# Enough rows to tell a point, not so many that it takes all day.
ROWS = 1000

Say = Callable[[str], None]


@dataclass(frozen=True)
class Disturbed:
    """A loaded version and the labelled rows, `rows_per_run` of which go into one run; `metric` is a named one."""

    version: Version
    runner: Runner
    data: DataSet
    reading: Reading
    rows_per_run: int
    classes: int
    metric: Metric

    def by_corruptions(self, seed: int, say: Say) -> dict[str, float]:
        """The metric of the first rows, plain and after each corruption that these inputs know."""
        by_input = corruptions(self.version.manifest.signature)
        if not by_input:
            return {}
        some = self.data.first(ROWS)
        names = list(dict.fromkeys(one.name for ways in by_input.values() for one in ways))
        measured = {}
        for name, rows in {"clean": some, **{name: corrupted(some, name, by_input, seed=seed) for name in names}}.items():
            say(f"Answering {rows.rows:,} rows again ({name})")
            measured[name] = self._of(rows)
        return measured

    def by_attacks(self, share: float, say: Say) -> tuple[dict[str, float], str]:
        """The metric of the first rows after adversarial steps, and why there is none where that is so."""
        some = self.data.first(ROWS)
        say(f"Moving {some.rows:,} rows where the model is most wrong")
        moved, why_not = attacked(self.version, some, self.reading.output, share)
        return {name: self._of(rows) for name, rows in moved.items()}, why_not

    def _of(self, rows: DataSet) -> float:
        assert rows.truth is not None
        answered = answer_all(self.runner, rows, self.reading, self.rows_per_run)
        return figures_of(judged(answered, rows.truth, self.classes)).get(self.metric.name, float("nan"))
