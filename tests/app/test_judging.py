"""A version is tested on data and compared with another, and both verdicts are evidence."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

import towline
from towline.app.judging.compare import compare
from towline.app.judging.judge import Options, measure_version
from towline.app.judging.pages import page_of_comparison
from towline.core.errors import UsageError, VersionError
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.verify.gates import gate

ROWS = 400
QUICK = Options(speed=False, robustness=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m:1, m:2 (another), m:3 (gives NaN for negatives), and a regressor."""
    folder = tmp_path_factory.mktemp("judged")
    for seed in (0, 1):
        towline.import_model(tiny_models.write(folder, tiny_models.mlp(seed=seed), f"{seed}.onnx"), name="m", home=folder / "home")
    towline.import_model(tiny_models.write(folder, tiny_models.logarithm(), "log.onnx"), name="log", home=folder / "home")
    return folder / "home"


@pytest.fixture(scope="module")
def data(home: Path) -> Path:
    """What m:1 answers, but for every tenth row."""
    x = np.random.default_rng(0).normal(size=(ROWS, 10)).astype(np.float32)
    labels = towline.load("m:1", home=home).predict(x).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 10
    np.savez(home / "data.npz", x=x, labels=labels)
    return home / "data.npz"


def test_figures_count_what_is_right_and_gates_read_them(home: Path, data: Path):
    tested = measure_version("m:1", data, gates=[gate("accuracy", ">= 0.9"), gate("accuracy", "> 0.9")], options=QUICK, home=home)

    assert tested.figures["accuracy"] == pytest.approx(0.9)
    assert [verdict.passed for verdict in tested.verdicts] == [True, False]
    assert not tested.passed
    assert tested.figures["repeats"] == 1


def test_data_may_be_a_url(home: Path, data: Path):
    assert measure_version("m:1", data.as_uri(), options=QUICK, home=home).figures["accuracy"] == pytest.approx(0.9)
    with pytest.raises(UsageError, match="ftp"):
        measure_version("m:1", "ftp://example.org/data.npz", options=QUICK, home=home)


def test_a_gate_on_what_was_not_measured_fails(home: Path, data: Path):
    tested = measure_version("m:1", data, gates=[gate("p99_ms", "<= 1000")], options=QUICK, home=home)

    assert tested.verdicts[0].value is None
    assert not tested.passed


def test_speed_and_robustness_are_measured_when_wanted(home: Path, data: Path):
    tested = measure_version("m:1", data, options=Options(limit=100), home=home)

    assert tested.rows == 100
    assert 0 < tested.figures["p50_ms"] <= tested.figures["p99_ms"]
    assert set(tested.robustness) == {"clean", "noise"}
    assert tested.figures["accuracy_noise"] <= tested.figures["accuracy"] == tested.robustness["clean"]


def test_what_was_found_is_an_event_about_the_digest(home: Path, data: Path):
    tested = measure_version("m:1", data, options=QUICK, home=home)
    with open_store(home) as store:
        event = store.events(kind="version.tested")[-1]

    assert event.digest == tested.version.digest
    assert event.data["figures"]["accuracy"] == pytest.approx(0.9)
    assert event.data["data"].startswith("sha256:")
    assert event.data["classes"][0]["support"] >= 0


def test_rows_without_a_finite_answer_are_wrong_and_counted(home: Path, tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.float32([[-1, 1], [1, 2], [4, 5]]), labels=np.int64([0, 1, 1]))

    tested = measure_version("log", tmp_path / "d.npz", options=QUICK, home=home)

    assert tested.figures["not_finite_rows"] == 1
    assert tested.figures["accuracy"] == pytest.approx(2 / 3)


def test_values_are_judged_as_a_regressors(home: Path, tmp_path: Path):
    x = np.float32([[1, 2], [3, 4]])
    np.savez(tmp_path / "d.npz", x=x, y=np.log(x).astype(np.float64) + 0.5)

    figures = measure_version("log", tmp_path / "d.npz", options=QUICK, home=home).figures

    assert figures["mae"] == pytest.approx(0.5, abs=1e-6)
    assert figures["bias"] == pytest.approx(-0.5, abs=1e-6)


def test_a_metric_of_ones_own_runs_in_a_process_of_its_own(home: Path, data: Path, tmp_path: Path):
    (tmp_path / "mine.py").write_text(
        "import os\nprint('talk')\n"
        "def first(answers, truth):\n    return {'share': float((answers.argmax(1) == truth).mean()), 'pid': os.getpid()}\n"
        "def broken(answers, truth):\n    raise ValueError('no such thing')\n"
    )

    figures = measure_version(
        "m:1", data, options=Options(metric=f"{tmp_path}/mine.py:first", speed=False, robustness=False), home=home
    ).figures
    with pytest.raises(UsageError, match="no such thing"):
        measure_version("m:1", data, options=Options(metric=f"{tmp_path}/mine.py:broken", speed=False, robustness=False), home=home)

    assert figures["share"] == pytest.approx(0.9)
    assert figures["pid"] != os.getpid()


def test_labels_beyond_the_classes_are_refused(home: Path, tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 10), np.float32), labels=np.int64([0, 10]))

    with pytest.raises(UsageError, match="a label is 10, and the model tells 10 classes apart"):
        measure_version("m:1", tmp_path / "d.npz", options=QUICK, home=home)


def test_a_version_that_was_tampered_with_is_not_tested(home: Path, data: Path, tmp_path: Path):
    version = towline.import_model(tiny_models.write(tmp_path, tiny_models.mlp(seed=7), "t.onnx"), name="torn", home=home).version
    (version.path / "model" / "model.onnx").write_bytes(b"")

    with pytest.raises(VersionError, match="changed after sealing"):
        measure_version("torn", data, options=QUICK, home=home)


def test_two_versions_are_compared_row_by_row(home: Path, data: Path):
    found = compare("m:1", "m:2", data, gates=[gate("drop", "<= 0.5pt")], options=QUICK, home=home)

    accuracy = found.figures["accuracy"]
    assert accuracy.first == pytest.approx(0.9)
    assert accuracy.high < 0
    assert found.mcnemar is not None
    assert found.mcnemar.only_first - found.mcnemar.only_second == round(-accuracy.difference * ROWS)
    assert found.agreement is not None
    assert found.agreement < 1
    assert not found.passed
    assert found.verdict.startswith("Not fit to take over: drop is")
    assert len(found.worst) == 10
    with np.load(data) as arrays:
        for (name, _), inputs in zip(found.worst, found.worst_inputs, strict=True):
            np.testing.assert_array_equal(inputs["x"], arrays["x"][[int(name.removeprefix("row ")) - 1]])


def test_a_version_beside_itself_differs_by_nothing(home: Path, data: Path):
    found = compare("m:1", "m:1", data, gates=[gate("drop_sure", "<= 0"), gate("agreement", "== 1")], options=QUICK, home=home)

    assert found.passed
    assert found.figures["accuracy"].difference == 0
    assert found.verdict == "No difference in quality that these rows could show."
    with open_store(home) as store:
        event = store.events(kind="version.compared")[-1]
    assert event.data["beside"] == event.digest


def test_without_labels_only_agreement_is_told(home: Path, tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(1).normal(size=(50, 10)).astype(np.float32))

    found = compare("m:1", "m:2", tmp_path / "d.npz", options=QUICK, home=home)

    assert found.agreement is not None
    assert "accuracy" not in found.figures
    assert "Without labels" in found.verdict


def test_the_loss_is_that_of_the_metric_and_its_interval_holds_it(home: Path, data: Path):
    found = compare("m:1", "m:2", data, gates=[gate("drop", "<= 0.5pt"), gate("drop_sure", "<= 1")], options=by("f1"), home=home)

    f1 = found.figures["f1"]
    assert (f1.is_paired, found.figures["accuracy"].is_paired) == (True, False)
    assert f1.low < f1.difference < f1.high < 0
    assert [one.value for one in found.verdicts] == pytest.approx([f1.first - f1.second, -f1.low])
    assert "f1 ↑" in page_of_comparison(found)


def test_a_function_of_ones_own_judges_and_the_record_names_its_source(home: Path, data: Path, tmp_path: Path):
    (tmp_path / "mine.py").write_text("def wrong(answers, truth):\n    return int((answers.argmax(1) != truth).sum())\n")

    found = compare("m:1", "m:2", data, gates=[gate("drop", "<= 10")], options=by(f"{tmp_path}/mine.py:wrong:lower"), home=home)

    lost = found.figures["wrong"].difference
    assert (found.figures["wrong"].first, found.verdicts[0].value) == (ROWS / 10, lost)
    assert lost > 10
    with open_store(home) as store:
        recorded = store.events(kind="version.compared")[-1].data["metric"]
    assert (recorded["name"], recorded["better"], recorded["source"]) == ("wrong", "lower", f"{tmp_path}/mine.py:wrong")
    assert recorded["digest"] == hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()


def test_robustness_is_told_by_the_figure_that_was_named(home: Path, data: Path):
    tested = measure_version("m:1", data, options=Options(metric="f1", speed=False, limit=100), home=home)

    assert tested.robustness["clean"] == tested.figures["f1_clean"] == pytest.approx(tested.figures["f1"])
    assert "accuracy_clean" not in tested.figures


def by(metric: str) -> Options:
    return Options(metric=metric, speed=False)
