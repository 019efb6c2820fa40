"""What judges is named or a function of one's own, says which way is better, and is refused where the data has no such figure."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from towline.app.judging import own_metric
from towline.app.judging.measure import judging, metric_of
from towline.app.judging.own_metric import own_beside
from towline.app.optimizing.limits import Limits
from towline.core.errors import UsageError
from towline.verify.gates import gate
from towline.verify.metrics.classification import classified
from towline.verify.metrics.named import NAMED, Metric
from towline.verify.metrics.regression import regressed

TRUTH = np.arange(8) % 4
LOGITS = 3 * np.eye(4)[TRUTH]
OF_CLASSES = classified(LOGITS, TRUTH)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    place = tmp_path / "mine.py"
    place.write_text(
        "import os, signal, time\nprint('talk')\n"
        "def right(answers, truth):\n    return int((answers.argmax(1) == truth).sum())\n"
        "right.better = 'higher'\n"
        "def cost(answers, truth):\n    return 1\n"
        "def broken(answers, truth):\n    raise ValueError('no such thing')\n"
        "def gone(answers, truth):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "def hangs(answers, truth):\n    time.sleep(3600)\n"
    )
    return place


def metric(source: Path, function: str) -> Metric:
    return Metric(function, source=f"{source}:{function}", digest=hashlib.sha256(source.read_bytes()).hexdigest())


def asked(word: Metric) -> tuple[float, ...]:
    return own_beside(word, LOGITS, np.roll(LOGITS, 1, axis=1), TRUTH, seed=0)


def test_which_way_is_better_is_declared_or_asked_for(source: Path):
    assert metric_of(f"{source}:right") == metric(source, "right")
    # Who asks knows better than the file.
    lower = metric_of(f"{source}:right:lower")
    assert lower is not None
    assert lower.better == "lower"
    with pytest.raises(UsageError, match="nobody says whether higher or lower is better") as refused:
        metric_of(f"{source}:cost")
    assert f"--metric {source}:cost:higher" in str(refused.value.hint)


def test_a_function_of_ones_own_is_asked_for_both_in_a_process_of_its_own(source: Path, monkeypatch: pytest.MonkeyPatch):
    # As many draws as there are to be, however busy the machine is.
    monkeypatch.setattr(own_metric, "DRAWING_S", 600.0)

    assert asked(metric(source, "right")) == (8, 0, -8, -8)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("broken", "broken failed: ValueError: no such thing"),
        ("gone", "gone failed: its process was killed by signal 9"),
        ("absent", "absent failed: AttributeError: module 'metric' has no attribute 'absent'"),
    ],
)
def test_a_function_that_gives_no_number_is_told_by_name(source: Path, function: str, said: str):
    with pytest.raises(UsageError) as refused:
        asked(metric(source, function))

    assert said in refused.value.message


def test_a_function_that_hangs_is_ended(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(own_metric, "TIMEOUT_S", 0.1)

    with pytest.raises(UsageError, match=r"hangs took longer than 0\.1 seconds"):
        asked(metric(source, "hangs"))


def test_a_file_that_is_changed_while_it_judges_ends_that(source: Path):
    before = metric(source, "right")
    source.write_text(source.read_text() + "# Another.\n")

    with pytest.raises(UsageError, match="was changed while it judged") as refused:
        asked(before)
    assert refused.value.code == "METRIC_CHANGED"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("f-1", "There is no metric 'f-1'; did you mean f1?"),
        ("nonsense", "There is no metric 'nonsense'."),
        ("mine.py", "--metric mine.py is not FILE.py:FUNCTION."),
        ("mine.py:f:up", "--metric mine.py:f:up is not FILE.py:FUNCTION."),
        ("nowhere.py:f", "nowhere.py: No such file or directory; expected the Python file of the metric."),
    ],
)
def test_a_word_that_is_no_metric_is_refused_with_what_is(word: str, said: str):
    with pytest.raises(UsageError) as refused:
        metric_of(word)

    assert refused.value.message == said


@pytest.mark.parametrize(
    ("name", "found", "said", "hint"),
    [
        ("rmse", OF_CLASSES, "which asks for classes.", "accuracy, top3, precision, recall, f1, worst_recall, roc_auc."),
        ("ece", OF_CLASSES, "which asks for classes, and scores that are no probabilities have no calibration.", "accuracy, top3"),
        ("top5", OF_CLASSES, "which asks for classes.", "accuracy, top3"),
        ("roc_auc", classified(LOGITS[:1], TRUTH[:1]), "which asks for classes, and all rows are of one class.", "accuracy, top3"),
        ("f1", regressed(LOGITS, LOGITS), "which asks for values.", "mae, rmse, error_variance, worst, relative_error, r2."),
        ("r2", regressed(np.ones(3), np.ones(3)), "which asks for values, and labels that do not vary explain nothing.", "mae, rmse"),
        ("f1", None, "The data has no labels, so f1 cannot be measured.", ""),
    ],
)
def test_a_figure_that_the_rows_do_not_have_is_refused_with_those_that_they_have(name: str, found: object, said: str, hint: str):
    with pytest.raises(UsageError) as refused:
        judging(NAMED[name], found)  # type: ignore[arg-type]

    assert refused.value.message.endswith(said)
    assert hint in str(refused.value.hint)


def test_without_a_word_accuracy_judges_and_of_values_the_mean_error():
    assert metric_of("") is None
    assert judging(None, OF_CLASSES) == NAMED["accuracy"]
    assert judging(None, regressed(LOGITS, LOGITS)) == NAMED["mae"]


def test_half_a_point_is_for_shares_and_of_others_somebody_has_to_say_what_is_much():
    assert Limits().beside(None) == Limits().beside(NAMED["f1"]) == Limits(0.005)
    assert Limits(2.5).beside(NAMED["rmse"]) == Limits(2.5)
    for one in (NAMED["rmse"], Metric("cost", "lower", source="m.py:cost")):
        with pytest.raises(UsageError, match=f"{one.name} judges, and nobody says how much of it may be lost"):
            Limits().beside(one)
    with pytest.raises(UsageError, match="max-drop 2 is more than all of f1"):
        Limits(2.0).terms(NAMED["f1"])
    assert Limits(2.0).terms(NAMED["rmse"]).gates[0] == gate("drop", "<= 2")


def test_losses_that_differ_by_little_of_what_may_be_lost_are_alike():
    assert Limits(0.01).terms(NAMED["accuracy"]).grain == 0.001
    assert Limits(50.0).terms(NAMED["rmse"]).grain == 10
