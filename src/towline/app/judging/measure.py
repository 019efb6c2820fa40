"""By what figure versions are judged: the one that was asked for, else accuracy, and of values the mean absolute error."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

import numpy as np

from towline.app.judging.own_metric import is_own, own_beside, own_figures, own_metric
from towline.core.errors import UsageError
from towline.verify.accuracy import Answered, countable_answers, figures_of, judged
from towline.verify.metrics.classification import Classified
from towline.verify.metrics.named import NAMED, Metric, difference
from towline.verify.metrics.regression import Regressed

Found = Classified | Regressed


def metric_of(word: str) -> Metric | None:
    """NAME, or FILE.py:FUNCTION[:higher|:lower], whose file is loaded once, in a process of its own; None where nothing was asked for.

    Raises UsageError for a name that no figure has, and for a function that fails, or does not say which way is better."""
    if not word or word in NAMED:
        return NAMED.get(word)
    if is_own(word):
        return own_metric(word)
    near = difflib.get_close_matches(word, list(NAMED), n=1)
    raise UsageError(
        f"There is no metric '{word[:64]}'" + (f"; did you mean {near[0]}?" if near else "."),
        field="metric",
        hint=f"There is: {', '.join(NAMED)}. One of your own: --metric FILE.py:FUNCTION",
    )


def judging(metric: Metric | None, found: Found | None) -> Metric:
    """The metric that judges answers of which `found` was found. Raises UsageError where what was asked for is not measured of them."""
    if found is None:
        assert metric is not None
        raise UsageError(f"The data has no labels, so {metric.name} cannot be measured.", code="METRIC_DOES_NOT_FIT", field="metric")
    if metric is None:
        return NAMED[yardstick(found)]
    figures = figures_of(found)
    if metric.source or math.isfinite(figures.get(metric.name, math.nan)):
        return metric
    fitting = [name for name in NAMED if math.isfinite(figures.get(name, math.nan))]
    asked = "classes" if isinstance(found, Classified) else "values"
    raise UsageError(
        f"--metric {metric.name} has no value on this data, which asks for {asked}{_why_not(metric.name, found)}.",
        code="METRIC_DOES_NOT_FIT",
        field="metric",
        hint=f"What has one: {', '.join(fitting)}.",
    )


def yardstick(found: Found) -> str:
    """The one figure that says how good answers are, where nobody asked for another."""
    return "accuracy" if isinstance(found, Classified) else "mae"


def of_both(
    metric: Metric, answered: Sequence[Answered], found: Sequence[Found], truth: np.ndarray, classes: int, *, seed: int
) -> tuple[float, float, float, float]:
    """The metric of two versions' answers to the same rows, and the bounds that hold second minus first with 95 % confidence.

    NaN where there is none. Raises UsageError where a function of the user's own fails."""
    if metric.source:
        return own_beside(metric, answered[0].answers, answered[1].answers, truth, seed=seed)
    first, second = (figures_of(one).get(metric.name, math.nan) for one in found)
    one, other = (countable_answers(each, truth, classes) for each in answered)
    sure = difference(metric.name, one, other, truth, seed=seed)
    return first, second, sure.low, sure.high


def value_of(metric: Metric, answered: Answered, truth: np.ndarray, classes: int) -> float:
    """Of one version's answers, NaN where there is none. Raises UsageError where a function of the user's own fails."""
    if metric.source:
        return next(iter(own_figures(metric.source, answered.answers, truth).values()), math.nan)
    return figures_of(judged(answered, truth, classes)).get(metric.name, math.nan)


def _why_not(name: str, found: Found) -> str:
    if name == "ece" and isinstance(found, Classified):
        return ", and scores that are no probabilities have no calibration"
    if name == "roc_auc" and isinstance(found, Classified):
        return ", and all rows are of one class"
    return ", and labels that do not vary explain nothing" if name == "r2" and isinstance(found, Regressed) else ""
