"""Propose combinations of passes that nobody has planned, by Optuna: a tree-structured Parzen estimator that learns from every chain tried.

Two things are wanted at once, speed and answers that stay (Ozaki et al. 2020, "Multiobjective Tree-Structured Parzen Estimator for
Computationally Expensive Optimization Problems"). Equal seeds and equal results give equal proposals.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from towline.core.errors import MissingExtra
from towline.optimize.base import Chain, Pass
from towline.optimize.distill import Distill
from towline.optimize.plan import GRAIN, Situation, Tried, front
from towline.optimize.prune import Prune
from towline.optimize.quantize import Int8

# It ends after so many proposals in a row that moved nothing on the front of speed against loss, and after so many in all.
PATIENCE = 6
MAX_PROPOSALS = 40
_NONE = "none"


class Explorer:
    """Propose, have it judged, learn. Raises MissingExtra without Optuna."""

    def __init__(self, situation: Situation) -> None:
        try:
            import optuna
        except ModuleNotFoundError:
            raise MissingExtra(
                "Combinations beyond the planned ones need Optuna.", hint="Install it: pip install 'towline[optimize]'"
            ) from None
        self._optuna = optuna
        self._situation = situation
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            # What we use of it is called experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.TPESampler(seed=situation.seed, n_startup_trials=5, multivariate=True)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        self._tried: dict[Chain, Tried] = {}
        self._open: dict[Chain, Any] = {}
        self._stale = 0
        self._proposed = 0

    def learn(self, tried: Tried) -> None:
        """What came of a chain, proposed here or not; one outside the space teaches nothing."""
        before = front(list(self._tried.values()))
        self._tried[tried.tried] = tried
        trial = self._open.pop(tried.tried, None)
        if trial is not None:
            self._tell(trial, tried)
            self._stale = 0 if front(list(self._tried.values())) != before else self._stale + 1
        elif (known := settings_of_chain(tried.tried, self._situation)) is not None:
            self._study.enqueue_trial(known)
            asked = self._study.ask()
            suggested(asked, self._situation)
            self._tell(asked, tried)

    def propose(self) -> Chain | None:
        """A chain that was not tried yet; None when nothing better is to be expected."""
        while self._stale < PATIENCE and self._proposed < MAX_PROPOSALS:
            self._proposed += 1
            trial = self._study.ask()
            chain = suggested(trial, self._situation)
            if chain.passes and chain not in self._tried:
                self._open[chain] = trial
                return chain
            self._stale += 1
            if chain.passes:
                self._tell(trial, self._tried[chain])
            else:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return None

    def _tell(self, trial: Any, tried: Tried) -> None:
        if tried.speedup <= 0 or not math.isfinite(tried.drop):
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
            return
        # A chain that broke a limit steers away, and is still learned from.
        trial.set_constraint("limits", 0.0 if tried.fits else 1.0)
        # Rounded to what can be told apart on a machine that does other things too: noise must not steer.
        self._study.tell(trial, [round(tried.speedup, 1), GRAIN * tried.grains()])


def suggested(trial: Any, situation: Situation) -> Chain:
    """The chain that a trial's choices mean; without passes where it chose none. The trial records what it was asked."""
    passes: list[Pass] = []
    training = situation.training
    heads = [_NONE, *(("prune", "distill") if training is not None else ())]
    head = trial.suggest_categorical("head", heads)
    if head == "prune" and training is not None:
        passes.append(Prune(ratio=trial.suggest_float("ratio", 0.2, 0.9, step=0.1), training=training))
    if head == "distill" and training is not None:
        passes.append(Distill(width=trial.suggest_float("width", 0.125, 0.75, step=0.125), training=training))
    if trial.suggest_categorical("int8", [False, True]):
        calibration = trial.suggest_categorical("calibration", ["minmax", "percentile", "entropy"])
        per_channel = trial.suggest_categorical("per_channel", [False, True])
        passes.append(replace(situation.int8, calibration=calibration, per_channel=per_channel))
    return Chain(tuple(passes))


def settings_of_chain(chain: Chain, situation: Situation) -> dict[str, Any] | None:
    """The choices by which `suggested` gives this very chain; None where none do."""
    choices: dict[str, Any] = {"head": _NONE, "int8": False}
    for one in chain.passes:
        if isinstance(one, Prune):
            choices |= {"head": "prune", "ratio": round(one.ratio, 3)}
        elif isinstance(one, Distill):
            choices |= {"head": "distill", "width": one.width}
        elif isinstance(one, Int8):
            choices |= {"int8": True, "calibration": one.calibration, "per_channel": one.per_channel}
    return choices if suggested(_Fixed(choices), situation) == chain else None


class _Fixed:
    """Stands for a trial whose choices are known."""

    def __init__(self, choices: Mapping[str, Any]) -> None:
        self._choices = choices

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._choices.get(name, choices[0])

    def suggest_float(self, name: str, low: float, high: float, *, step: float) -> float:
        return float(min(max(self._choices[name], low), high))
