"""The pages of test, compare and optimize: one file, nothing fetched, everything escaped, and the figures are those that were found."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from read_page import ReadPage

from towline.verify.gates import gate, verdicts
from towline.verify.layers import GuiltyLayer
from towline.verify.metrics.by_class import ClassDifference
from towline.verify.metrics.classification import classified
from towline.verify.metrics.regression import regressed
from towline.verify.pace import Pace
from towline.verify.pages import words as words_module
from towline.verify.pages.bars import Bar, bars, matrix
from towline.verify.pages.compared import ComparedPage, WorstRow, compared_page
from towline.verify.pages.judged import most_confused
from towline.verify.pages.measured import MeasuredPage, measured_page
from towline.verify.pages.optimized import OptimizedPage, Suspect, optimized_page
from towline.verify.pages.thumbnails import SIDE, planes, thumbnail
from towline.verify.pages.trials import _LEGEND, Trial
from towline.verify.pages.words import words

EVIL = "<script src='//evil.example/x.js'>&\"]]>"
TRUTH = np.array([0, 0, 1, 1, 2, 2])
SCORES = np.float32([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.2, 0.8, 0], [0.7, 0.2, 0.1], [0, 0.1, 0.9], [0.1, 0, 0.9]])
PACE = Pace(20, 1.0, 2.0, 3.0, 500.0, cdf=((0.5, 0.0), (1.0, 0.5), (3.0, 1.0)))


class Pair:
    """A figure of both."""

    def __init__(self, first: float, second: float, low: float = float("nan"), high: float = float("nan")) -> None:
        self.first, self.second, self.difference, self.low, self.high = first, second, second - first, low, high
        self.is_paired = low == low


def measured(found: Any = None, labels: tuple[str, ...] = ("cat", EVIL, "dog"), **changed: Any) -> MeasuredPage:
    content: dict[str, Any] = {
        "name": "m:1",
        "facts": [("Data", EVIL)],
        "figures": {"accuracy": 5 / 6, EVIL: float("nan")},
        "found": found or classified(SCORES, TRUTH),
        "labels": labels,
        "pace": PACE,
        "robustness": {"clean": 0.9, "noise": 0.5},
        "yardstick": "accuracy",
        "verdicts": verdicts([gate("accuracy", ">= 0.99"), gate(EVIL, "> 1")], {"accuracy": 5 / 6}),
        "notes": [EVIL],
    }
    return MeasuredPage(**{**content, **changed})


def compared(**changed: Any) -> ComparedPage:
    content: dict[str, Any] = {
        "first": "m:1",
        "second": EVIL,
        "facts": [("Rows", "6")],
        "figures": {"accuracy": Pair(0.9, 0.8, -0.2, -0.01), "size_mb": Pair(2, 1), "roc_auc": Pair(float("nan"), 1)},
        "found": [classified(SCORES, TRUTH), classified(SCORES[::-1].copy(), TRUTH)],
        "labels": ("cat", EVIL),
        "paces": (PACE, PACE),
        "worst": [WorstRow(EVIL, f"cat became {EVIL}", thumbnail({"x": np.arange(64.0).reshape(1, 8, 8)})), WorstRow("row 2", "a", "")],
        "verdicts": (),
        "verdict": "The second is surely worse.",
        "classes": [
            ClassDifference(1, 200, (0.9, 0.8), (0.9, 0.85), 25, 5, -0.15, -0.05),
            ClassDifference(0, 9, (0.5, 0.6), (0.5, 0.6), 0, 1, -0.1, 0.3),
        ],
        "guilty": [GuiltyLayer(EVIL, "Conv", 12.0, 200.0)],
        "remedy": f"towline optimize m:1 --data '{EVIL}'",
    }
    return ComparedPage(**{**content, **changed})


def optimized(**changed: Any) -> OptimizedPage:
    tried = [
        Trial("int8", f"entropy {EVIL}", True, 2.0, 0.25, 0.002, "", is_kept=True, notes=[EVIL], curves={EVIL: (2.0, 1.0)}),
        Trial("dynamic", "", False, 0.8, 0.3, -0.001, "It is slower here: 0.80x."),
        Trial("half", "", False, 0.0, 0.0, 0.0, f"It would not run: {EVIL}"),
    ]
    guilty = [Suspect("Conv_0", 12.5, in_float=True), Suspect(EVIL, 60.0), Suspect("Gemm", float("inf"))]
    content: dict[str, Any] = {"name": "m:1", "facts": [("Version", "m:1")], "tried": tried, "guilty": guilty, "verdict": "m:2: 2.00×"}
    return OptimizedPage(**{**content, "beside": compared(), **changed})


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize(
    "markup",
    [
        lambda language: measured_page(measured(), language),
        lambda language: compared_page(compared(), language),
        lambda language: optimized_page(optimized(), language),
    ],
)
def test_a_page_stands_alone_and_shows_what_came_from_outside_as_text(markup: Any, language: str):
    read = ReadPage(markup(language))

    assert read.all("html") == [{"lang": language}]
    assert EVIL in read.text
    assert len(read.drawings) >= 2
    assert "default-src 'none'" in read.all("meta")[0]["content"]
    assert "@media print" in read.markup
    assert all(one.get("role") == "img" and one.get("aria-label") for one in read.drawings)


def test_a_test_shows_confusion_calibration_recall_latency_robustness_and_gates():
    read = ReadPage(measured_page(measured()))

    assert f"cat → {EVIL}: 0" in read.told("Confusion")
    assert f"{EVIL} → cat: 1" in read.told("Confusion")
    assert read.told("Recall by class") == [f"{EVIL}: 50.0 %", "cat: 100.0 %", "dog: 100.0 %"]
    assert "3: 0.900 → 1.000" in read.told("Share of right answers by confidence; on the diagonal a confidence is what it says.")
    assert read.told("accuracy on the same rows after each change") == ["clean: 0.9", "noise: 0.5"]
    assert read.drawing("Share of single rows answered within a time") is not None
    assert read.markup.count('<tr class="fail">') == 2
    assert "not measured" in read.text


def test_a_regressor_has_no_classes_and_its_page_is_whole():
    found = regressed(np.float32([1, 2]), np.float64([1, 3]))

    read = ReadPage(measured_page(measured(found=found, robustness={}, pace=None, verdicts=(), notes=(), yardstick="mae")))

    assert read.drawings == []
    assert "Confusion" not in read.text
    assert "Gates" not in read.text


def test_of_many_classes_those_confused_most_are_shown_and_that_is_said():
    counts = np.diag(np.full(200, 9))
    counts[150, 3], counts[199, 150] = 5, 2
    found = classified(np.eye(200, dtype=np.float32), np.arange(200))

    assert {3, 150, 199} <= set(most_confused(counts).tolist())
    assert most_confused(counts).tolist() == sorted(most_confused(counts).tolist())
    read = ReadPage(measured_page(measured(found=found, labels=())))
    assert "The 20 of 200 classes that are confused most" in read.text
    assert "The 30 of 200 classes with the least recall" in read.text


def test_a_comparison_shows_intervals_differences_both_latencies_and_the_worst_rows():
    read = ReadPage(compared_page(compared()))

    assert "-0.2 … -0.01" in read.text
    assert "The second is surely worse." in read.text
    assert any(told.endswith(": -2") for told in read.told("Difference in confusion"))
    assert len([one for one in read.drawing("Share of single rows answered within a time").iter() if one.tag.endswith("polyline")]) == 2
    assert [one["alt"] for one in read.all("img")] == [EVIL]
    assert "nan" not in read.text


def test_classes_that_differ_are_drawn_with_their_interval_and_those_that_may_not_are_hollow():
    read = ReadPage(compared_page(compared()))

    drawing = read.drawing("Recall by class, second minus first, pt")
    assert read.told("Recall by class, second minus first, pt") == [f"{EVIL}: -10 (-15 … -5)", "cat: +10 (-10 … +30)"]
    assert [one.get("fill") == "none" for one in drawing.iter() if one.tag.endswith("circle")] == [False, True]
    assert "-15.00 … -5.00" in read.text
    many = [ClassDifference(place, 9, (0.5, 0.4), (0.5, 0.4), 1, 0, -0.4, 0.2) for place in range(40)]
    assert "The first 15 of 40 classes that differ." in ReadPage(compared_page(compared(classes=many))).text


def test_layers_and_the_command_that_may_help_stand_on_the_page():
    read = ReadPage(compared_page(compared()))

    assert "Layers that move the most" in read.text
    assert f"towline optimize m:1 --data '{EVIL}'" in read.text
    bare = ReadPage(compared_page(compared(guilty=(), remedy="", classes=()))).text
    assert not [one for one in ("Layers that move", "What may help", "Difference by class") if one in bare]


def test_a_confusion_that_did_not_change_is_said_and_not_drawn():
    same = [classified(SCORES, TRUTH)] * 2

    assert "Nothing is confused otherwise." in ReadPage(compared_page(compared(found=same))).text


def test_a_gate_that_says_no_is_the_verdict():
    failed = verdicts([gate("drop", "<= 0")], {"drop": 0.5})

    assert "Not fit to take over." in ReadPage(compared_page(compared(verdicts=failed))).text


def test_every_word_on_a_page_has_a_chinese_one():
    pages = [measured_page(measured(), "zh"), compared_page(compared(), "zh"), optimized_page(optimized(), "zh")]
    english = set(words_module._CHINESE)
    source = "".join(file.read_text() for file in Path(words_module.__file__).parent.glob("*.py") if file.name != "words.py")

    said = set(re.findall(r'say\(\s*"([^"]+)"\s*\)', source)) | {said for _, said in _LEGEND}
    assert said <= english
    for markup in pages:
        text = ReadPage(markup).text
        assert not [one for one in english if len(one) > 8 and "{" not in one and one in text]
    assert words("en")("Gates") == "Gates"
    assert words("zh")("someone's own") == "someone's own"


def test_charts_of_nothing_are_nothing_and_of_zeros_are_whole():
    assert bars("t", []) == ""
    assert matrix("t", [], [], down="d", across="a") == ""
    for drawn in (bars("t", [Bar("a", 0.0)]), matrix("t", ["a"], [[0]], down="d", across="a")):
        ReadPage(drawn)


def encoded(kind: str, size: tuple[int, int] = (200, 100)) -> np.ndarray:
    out = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(out, kind)
    row = np.empty((1, 1), dtype=object)
    row[0, 0] = out.getvalue()
    return row


def opened(uri: str) -> Image.Image:
    import base64

    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


@pytest.mark.parametrize(
    ("row", "size"),
    [
        (encoded("JPEG"), (SIDE, SIDE // 2)),
        (encoded("PNG"), (SIDE, SIDE // 2)),
        (np.arange(1 * 3 * 40 * 20, dtype=np.float32).reshape(1, 3, 40, 20), (20, 40)),
        (np.arange(1 * 40 * 20, dtype=np.uint8).reshape(1, 40, 20, 1), (20, 40)),
        (np.arange(28 * 28, dtype=np.float32).reshape(1, 28, 28), (28, 28)),
    ],
)
def test_a_row_that_is_a_picture_gets_a_small_one(row: np.ndarray, size: tuple[int, int]):
    assert opened(thumbnail({"x": row})).size == size


def test_channels_before_or_behind_give_the_same_picture():
    behind = np.random.default_rng(0).random((1, 8, 9, 3))

    np.testing.assert_array_equal(planes(behind), planes(np.moveaxis(behind, -1, 1)))


def bomb() -> np.ndarray:
    """A PNG of a few KB and 42 million pixels."""
    out = io.BytesIO()
    Image.new("1", (7000, 6000)).save(out, "PNG")
    row = np.empty(1, dtype=object)
    row[0] = out.getvalue()
    return row


@pytest.mark.parametrize(
    "row",
    [
        np.zeros((1, 10), np.float32),
        np.zeros((1, 8, 8), np.float32),
        np.full((1, 8, 8), np.nan, np.float32),
        np.arange(256.0).reshape(1, 1, 4, 64)[..., :2],
        np.array([[b"GIF89a"]], dtype=object),
        np.array([["text", "more"]], dtype=object),
        pytest.param(bomb(), id="bomb"),
    ],
)
def test_a_row_that_is_no_picture_or_a_hostile_one_gets_none(row: np.ndarray):
    assert thumbnail({"x": row}) == ""
