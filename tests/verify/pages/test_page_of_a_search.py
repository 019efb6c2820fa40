"""The page of a search: what was kept and what was refused look unlike, and every plot says in words what it shows in colour."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from read_page import ReadPage

import towline
from towline.app.judging.pages import _trial, floats_of
from towline.optimize.base import Chain, Pass
from towline.optimize.distill import Distill
from towline.optimize.equalise import Equalise
from towline.optimize.fusion import Fuse
from towline.optimize.graph import Slim
from towline.optimize.offline import Offline
from towline.optimize.plan import Tried
from towline.optimize.prune import Prune
from towline.optimize.qat import Qat
from towline.optimize.quantize import DynamicInt8, Int8
from towline.optimize.rounding import Round
from towline.optimize.shapes import FixShape
from towline.optimize.stored import Stored
from towline.optimize.train import Sparse
from towline.optimize.training.settings import Training
from towline.optimize.weight_only import WeightOnly
from towline.verify.pages import sentences
from towline.verify.pages.lines import linear, spanning
from towline.verify.pages.optimized import Loss, OptimizedPage, Suspect, optimized_page
from towline.verify.pages.points import Mark, Point, frontier, labels, points
from towline.verify.pages.settings import settings
from towline.verify.pages.trials import Trial, epoch_axis
from towline.verify.pages.words import words

ROOT = Path(towline.__file__).parent
SVG = "{http://www.w3.org/2000/svg}"
KEPT = Trial("int8", "minmax", True, 2.0, 0.25, 0.002, "", is_kept=True, agreement=0.99, floats=2, family="int8 minmax")
GOOD = Trial("slim", "", True, 1.2, 1.0, 0.0, "")
SLOW = Trial("dynamic", "", True, 0.8, 0.3, -0.001, "It is slower here: 0.80x.")
BROKEN = Trial("half", "", False, 0.0, 0.0, 0.0, "It would not run.")
NAIVE = Trial("int8", "minmax", False, 2.5, 0.25, 0.3, "Not fit to take over: drop is 0.3, wanted <= 0.005.", agreement=0.7, floats=0)
NAIVE = replace(NAIVE, family="int8 minmax")


def page(*tried: Trial, language: str = "en", guilty: tuple[Suspect, ...] = (), max_drop: float | None = None) -> ReadPage:
    return ReadPage(optimized_page(OptimizedPage("m:1", [], tried, guilty, "m:2: 2.00×", max_drop=max_drop), language))


def parts(drawing: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """The groups of a drawing that hold one point each, by the name they say; those of the legend say none."""
    return [one for one in drawing.iter(f"{SVG}g") if (one.findtext(f"{SVG}title") or "").startswith(name)]


def test_what_was_refused_stands_in_the_table_with_its_reason():
    read = page(KEPT, BROKEN, SLOW)

    assert "It would not run." in read.text
    assert "It is slower here: 0.80x." in read.text
    assert "handed over" in read.text
    assert read.markup.count('<tr class="kept">') == 1
    assert "99.00 %" in read.text


def test_what_ran_is_plotted_beside_the_version_it_came_from():
    drawing = page(KEPT, GOOD, SLOW, BROKEN, max_drop=0.005).drawing("Drop against speed")

    told = [str(one.text) for one in drawing.iter(f"{SVG}title")][1:]
    assert sorted(told) == ["1: int8 minmax", "2: slim", "3: dynamic", "m:1"]
    words_on_it = [one.text for one in drawing.iter(f"{SVG}text")]
    assert {"1", "2", "3", "m:1", "handed over", "refused", "right enough", "where it began"} <= set(words_on_it)
    assert "At most 0.5 pt may be lost." in page(KEPT, max_drop=0.005).text


def test_marks_are_told_apart_by_shape_and_not_by_colour_alone():
    drawing = page(KEPT, GOOD, SLOW).drawing("Drop against speed")

    shapes = {
        name: tuple(child.tag.removeprefix(SVG) for child in parts(drawing, name)[0])
        for name in ("1: int8", "2: slim", "3: dynamic", "m:1")
    }
    assert shapes == {
        "1: int8": ("circle", "circle", "title"),
        "2: slim": ("circle", "title"),
        "3: dynamic": ("circle", "path", "title"),
        "m:1": ("rect", "title"),
    }


def test_the_frontier_leaves_out_what_is_beaten_both_ways_and_what_was_refused():
    at: list[tuple[float, float, Mark]] = [
        (1, 0, "base"),
        (2, 1, "good"),
        (1.5, 2, "good"),
        (3, 1.5, "kept"),
        (9, 0, "refused"),
        (3, 1.6, "good"),
    ]

    found = frontier([Point("", "", x, y, 1, mark) for x, y, mark in at])

    assert [(one.x, one.y) for one in found] == [(1, 0), (2, 1), (3, 1.5)]


def test_labels_never_lie_on_one_another_and_many_points_at_one_place_leave_some_out():
    placed = labels([(str(number), 100.0, 100.0, 5.0) for number in range(9)])

    assert len(placed) == 4
    assert len({one.split(">")[0] for one in placed}) == 4


def test_a_plot_of_nothing_is_nothing_and_of_one_point_is_whole():
    assert points("t", [], linear("x", []), linear("y", []), []) == ""
    ReadPage(points("t", [Point("a", "a", 0, 0, 0, "good")], linear("x", [0]), linear("y", [0]), [("good", "g")]))


def test_operators_in_float_are_a_line_of_agreement_against_speed_with_their_number_at_each_point():
    read = page(KEPT, NAIVE, GOOD)

    drawing = read.drawing("Operators in float: agreement against speed")
    assert [str(one.text) for one in drawing.iter(f"{SVG}title")][1:] == [
        "2: int8 minmax, 2.50×, 70.00 %",
        "1: int8 minmax, 2.00×, 99.00 %",
    ]
    assert {"0", "2"} <= {one.text for one in drawing.iter(f"{SVG}text")}
    assert "Operators in float" not in page(KEPT, GOOD).text, "one point is no frontier"


def test_an_operator_left_in_float_is_hollow_and_that_is_said():
    read = page(KEPT, guilty=(Suspect("Conv_0", 12.5, in_float=True), Suspect("Gemm", 60.0), Suspect("Sum", float("inf"))))

    bars = list(read.drawing("Sensitivity by operator").iter(f"{SVG}rect"))
    assert read.told("Sensitivity by operator") == ["Conv_0: 12.5 dB", "Gemm: 60.0 dB", "Sum: 120.0 dB"]
    assert [one.get("fill") == "none" for one in bars] == [True, False, False]
    assert "Hollow: stayed in float" in read.text
    assert "Hollow" not in page(KEPT, guilty=(Suspect("Gemm", 60.0),)).text


def test_what_labelled_rows_lose_by_an_operator_is_drawn_with_how_sure_it_is():
    wrong, chance, right = Loss("accuracy", 0.05, 0.02, 0.08, 200), Loss("accuracy", 0.005, 0.0, 0.015, 200), Loss("accuracy", 0, 0, 0, 200)
    guilty = tuple(Suspect(name, 20.0, loss=loss) for name, loss in (("Sum", right), ("Gemm", chance), ("Conv_0", wrong)))
    read = page(KEPT, guilty=guilty)

    drawing = read.drawing("Loss by operator, pt")
    assert read.told("Loss by operator, pt") == ["Conv_0: 5 (2 … 8)", "Gemm: 0.5 (0 … 1.5)"]
    assert [one.get("fill") == "none" for one in drawing.iter(f"{SVG}circle")] == [False, True]
    assert "What of accuracy is lost by quantising this operator alone, on 200 labelled rows" in read.text
    assert "在 200 行带标签的数据上，只量化这个算子时 accuracy 的损失" in page(KEPT, guilty=guilty, language="zh").text
    assert "none of them alone loses any accuracy" in page(KEPT, guilty=guilty[:1]).text
    assert "labelled" not in page(KEPT, guilty=(Suspect("Gemm", 60.0),)).text


def test_the_growth_of_an_error_is_in_its_own_unit():
    assert page(KEPT, guilty=(Suspect("Gemm", 60.0, loss=Loss("mae", 0.25, 0.1, 0.5, 90, is_share=False)),)).told("Loss by operator") == [
        "Gemm: 0.25 (0.1 … 0.5)"
    ]


def test_training_shows_losses_and_shares_apart_with_what_passes_noted():
    curves = {"loss": (2.0, 1.0, float("nan"), 0.5), "validation": (2.1, 1.2, 1.1, 1.0), "validation accuracy": (0.5, 0.7, 0.8, 0.9)}
    read = page(GOOD, replace(KEPT, curves=curves, notes=("It kept 3 of 4 channels.",)))

    lines = {title: len(list(read.drawing(title).iter(f"{SVG}polyline"))) for title in ("2: loss", "2: share")}
    assert lines == {"2: loss": 2, "2: share": 1}
    assert "nan" not in read.text
    assert "2: It kept 3 of 4 channels." in read.text
    assert "How training went" not in page(GOOD).text


@pytest.mark.parametrize(
    ("values", "most", "ticks"),
    [
        ([0.0, 0.0], math.inf, [-0.1, -0.05, 0.0, 0.05, 0.1]),
        ([1.18, 1.97], math.inf, [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2]),
        ([94.0, 100.0], 100.0, [92.0, 94.0, 96.0, 98.0, 100.0]),
        ([100.0], 100.0, [90.0, 95.0, 100.0]),
        ([-3.0, 40.0], math.inf, [-10.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0]),
    ],
)
def test_an_axis_spans_all_values_with_round_ticks_and_nothing_beyond_what_can_be(values: list[float], most: float, ticks: list[float]):
    axis = spanning("t", values, most=most)

    assert list(axis.ticks) == pytest.approx(ticks)
    assert axis.low <= min(values) <= max(values) <= axis.high


@pytest.mark.parametrize("epochs", [1, 2, 10, 11, 300])
def test_epochs_are_whole_ticks_and_few(epochs: int):
    axis = epoch_axis("epoch", epochs)

    assert axis.ticks[0] == 1
    assert len(axis.ticks) <= 10
    assert all(tick == int(tick) for tick in axis.ticks)


def test_reasons_made_while_searching_are_chinese_on_a_chinese_page():
    text = page(KEPT, SLOW, NAIVE, language="zh").text

    assert "在这台机器上更慢：0.80 倍。" in text
    assert "不适合接替：drop 为 0.3，要求 <= 0.005。" in text
    assert words("zh")("Not fit to take over: p99_ms was not measured, wanted <= 5; f1 is 0.1, wanted > 1.") == (
        "不适合接替：p99_ms 没有测量，要求 <= 5；f1 为 0.1，要求 > 1。"
    )
    assert words("zh")("cat became dog") == "cat 变成 dog"


@pytest.mark.parametrize(
    ("english", "said"),
    [
        ("13 operators became 12.", "算子由 13 个变为 12 个。"),
        ("The time was up.", "时间已到。"),
        ("The process of the pass 'prune' took longer than 60 seconds.", "“prune”的进程超过了 60 秒。"),
        ("Graphs with the operators Loop, Scan cannot be trained.", "含有算子 Loop, Scan 的图不能训练。"),
        ("40,394 parameters became 9,000, 1,200 multiply-adds a row 300.", "参数由 40,394 变为 9,000，每行乘加由 1,200 变为 300。"),
        ("Of the rows held back, rounded, 98.10 % were right and became 98.40 %.", "保留的行在取整后答对的比例由 98.10 % 变为 98.40 %。"),
        ("Something of a stranger's that became known.", "Something of a stranger's that became known."),
        ("{0} {evil} became {1}", "{0} {evil} 变成 {1}"),
    ],
)
def test_what_passes_tell_is_chinese_on_a_chinese_page_and_a_strangers_words_stay(english: str, said: str):
    assert words("zh")(english) == said
    assert words("en")(english) == english


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (Int8(floats=("a", "b"), reduce_range=True), "静态，u8s8，最小最大值，每通道，7 位权重，2 个算子保留浮点"),
        (DynamicInt8(), "权重 s8，激活在每次运行时测定"),
        (Round(), "8 位权重，学习取整，校正偏置"),
        (Stored(4), "每通道的权重，对称，加载后为浮点"),
        (WeightOnly(), "每块 32 个，非对称，以 float 相乘"),
        (Offline("all", "AMD-25"), "级别 all，只用于 AMD-25"),
        (Fuse(heads=4), "注意力，层归一化，GELU，4 个头"),
        (FixShape(), "总是相同的维度"),
        (
            Prune(ratio=0.5, steps=2, guided=True, training=Training(epochs=1, augment=("shift", "noise"))),
            "去掉 50% 的通道（magnitude），分 2 步，按敏感度；1 轮，adam，学习率 0.001，余弦，每批 128 行，平移，噪声",
        ),
        (
            Distill(depth=0.5, features=True, training=Training(l1=0.1, smoothing=0.2, patience=3)),
            "学生 narrow，宽度 0.25，深度 0.5，温度 4，α 0.9，中间张量相近，"
            "5 轮，adam，学习率 0.001，余弦，每批 128 行，L1 0.1，标签平滑 0.2，耐心 3",
        ),
        (Sparse(), "80 % 为零（magnitude），在所有权重中，6 轮，adam，学习率 0.001，余弦，每批 128 行"),
        (Qat(), "范围 learnt，教师 0.5（温度 2）"),
        (Chain((Equalise(), Int8())), "通道范围，跨层；静态，u8s8，最小最大值，每通道"),
    ],
)
def test_settings_are_chinese_on_a_chinese_page(one: Pass | Chain, said: str):
    shown = page(replace(KEPT, settings=one.settings), language="zh").text

    assert said in shown
    assert one.settings in page(replace(KEPT, settings=one.settings)).text
    assert not re.search(r"[a-z]{4,} [a-z]{2,}", settings(one.settings, words("zh"))), "words of ours that nobody translated"


def test_a_strangers_settings_stay():
    assert settings("bits of its own, 3 by 4: all", words("zh")) == "bits of its own, 3 by 4: all"
    assert settings("student mine, yours.onnx, alpha 1", words("zh")) == "学生 mine，yours.onnx，α 1"


def test_why_a_search_stopped_and_what_it_kept_are_chinese_too():
    shown = OptimizedPage("m:1", [("Stopped", "The time was up."), ("Kept", "int8: static, per tensor")], (KEPT,), (), "m:2: 2.00×")

    text = ReadPage(optimized_page(shown, "zh")).text
    assert "时间已到。" in text
    assert "int8：静态，每张量" in text


def test_sentences_that_were_translated_are_those_that_are_said():
    """One that is worded anew shows here, and not as English on a Chinese page."""
    files = [file for place in ("optimize", "app", "verify") for file in (ROOT / place).rglob("*.py") if file.name != "sentences.py"]
    said = re.sub(r'"\s*f?"', "", "".join(file.read_text() for file in files))

    for pattern, _ in sentences._CHINESE[:-1]:
        longest = max(re.split(r"\([^)]*\)|\\.|, ", pattern.pattern), key=len)
        assert longest.strip() in said, pattern.pattern


def test_a_page_tells_what_the_search_left_out():
    shown = OptimizedPage("m:1", [], (KEPT,), (), "m:2: 2.00×", notes=("Combinations beyond the planned ones need Optuna. Install it.",))

    assert "need Optuna. Install it." in ReadPage(optimized_page(shown)).text
    assert "计划之外的组合需要 Optuna。" in ReadPage(optimized_page(shown, "zh")).text


def test_a_chain_tells_how_many_operators_stayed_in_float_and_which_settings_it_shares_with_others():
    two = Chain((Slim(), Int8(floats=("a", "b"))))

    shown = _trial(Tried(two, True, 1.0, 1.0, 0.0, agreement=0.9), is_kept=False)
    none = _trial(Tried(Chain((Slim(), Int8())), True, 1.0, 1.0, 0.0, agreement=0.9), is_kept=False)

    assert (shown.floats, none.floats) == (2, 0)
    assert shown.family == none.family
    assert shown.settings != none.settings
    assert floats_of(two) == ("a", "b")
    assert floats_of(Chain((DynamicInt8(),))) is None
    assert shown.agreement == 0.9
