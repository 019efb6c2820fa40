"""A search publishes what is faster or smaller and still right, keeps the rest as a lesson, and goes on where it was stopped."""

from __future__ import annotations

import html
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

import towline
from towline.app.judging.judge import Options
from towline.app.judging.pages import page_of_search
from towline.app.optimizing import optimize as optimizing
from towline.app.optimizing import searching, workshop
from towline.app.optimizing.journal import Journal
from towline.app.optimizing.optimize import Limits, optimize
from towline.app.optimizing.searching import Search
from towline.core.errors import MissingExtra, TowlineError, UsageError
from towline.optimize.base import Chain, Pass
from towline.optimize.graph import Half, Slim
from towline.optimize.plan import Tried
from towline.optimize.quantize import Int8
from towline.optimize.shapes import FixShape
from towline.optimize.stored import Stored
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.verify.pace import paces

# Real searches, which time what they try: in the tier that has the time.
pytestmark = pytest.mark.services

SMALL = Int8()
BENCH_CNN = Path(__file__).parents[2] / "bench" / "mnist_cnn.onnx"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    towline.import_model(tiny_models.write(tmp_path, tiny_models.mlp(width=512), "m.onnx"), name="m", home=tmp_path / "home")
    x = np.random.default_rng(0).normal(size=(200, 10)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x=x, labels=towline.load("m", home=tmp_path / "home").predict(x).argmax(axis=1))
    return tmp_path / "home"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the clock says is not looked at, so it is not looked at for long."""
    assert paces.__kwdefaults__ is not None
    monkeypatch.setitem(paces.__kwdefaults__, "budget_s", 0.2)


@pytest.fixture
def only_int8(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    """One real pass, so that a test takes a second; and whatever the clock says, it counts as faster."""
    monkeypatch.setattr(searching, "first_chains", lambda situation: (Chain((SMALL,)),))
    monkeypatch.setattr(Search, "_explored", lambda search: iter(()))
    for place in (optimizing, workshop):
        monkeypatch.setattr(place, "chosen", lambda tried: next((one for one in tried if one.fits), None))


@pytest.mark.usefixtures("only_int8")
def test_what_fits_becomes_a_version_of_its_own_with_its_parent_and_evidence(home: Path, tmp_path: Path):
    found = optimize("m", tmp_path / "data.npz", limits=Limits(max_drop=0.05), home=home)

    assert found.result is not None
    assert found.rows == 200 - 40, "the rows that calibrated do not judge"
    made = found.result.version
    assert (str(made), made.manifest.parents) == ("m:2", (found.version.digest,))
    assert made.manifest.origin.tools["pass"].startswith("int8: static")
    assert "QuantizeLinear" in made.manifest.facts.operators
    assert made.manifest.golden
    with open_store(home) as store:
        event = store.events(kind="version.optimized")[-1]
    assert event.digest == found.version.digest
    assert event.data["tried"][0]["pass"] == "int8"
    x = np.random.default_rng(1).normal(size=(50, 10)).astype(np.float32)
    same = towline.load("m:1", home=home).predict(x).argmax(1) == towline.load("m:2", home=home).predict(x).argmax(1)
    assert same.mean() >= 0.9
    page = page_of_search(found)
    assert f"m:2: {found.tried[0].speedup:.2f}×" in page
    assert made.digest in page
    assert found.beside is not None
    assert found.beside.agreement == found.tried[0].agreement
    assert "Share of single rows answered within a time" in page


@pytest.mark.usefixtures("only_int8")
def test_what_loses_too_much_is_not_handed_over_and_the_reason_stays(home: Path, tmp_path: Path):
    found = optimize("m", tmp_path / "data.npz", limits=Limits(min_agreement=1.0, max_size_mb=0.001), home=home)

    assert found.result is None
    assert "size_mb is" in found.tried[0].because
    assert html.escape(found.tried[0].because) in page_of_search(found)
    assert "size_mb 为" in page_of_search(found, "zh")
    with open_store(home) as store:
        assert [str(version) for version in store.versions()] == ["m:1"]
        assert store.events(kind="version.optimized")[-1].data["best"] is None


@pytest.mark.usefixtures("only_int8")
def test_each_operator_tells_what_the_labelled_rows_that_calibrate_lose_by_it(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(searching, "wants_sensitivity", lambda tried: True)

    found = optimize("m", tmp_path / "data.npz", limits=Limits(max_drop=0.05), home=home)

    losses = [one.loss for one in found.guilty if one.loss is not None]
    assert [(one.figure, one.rows) for one in losses] == [("accuracy", 40)] * 2
    for one in found.guilty:
        assert one.loss is not None
        # The labels are what the version answers: whatever row moved is lost.
        assert one.loss.lost == pytest.approx(one.moved)
    with open_store(home) as store:
        recorded = store.events(kind="version.optimized")[-1].data["guilty"]
    assert recorded[0]["loss"]["lost"] == losses[0].lost
    assert "40 labelled rows" in page_of_search(found)


@pytest.mark.usefixtures("only_int8")
def test_a_search_is_judged_by_the_function_that_was_named(home: Path, tmp_path: Path):
    own = right_rows(tmp_path)

    found = optimize("m", tmp_path / "data.npz", limits=Limits(max_drop=8), metric=f"{own}:right", home=home)

    assert found.metric is not None
    assert (found.metric.name, found.metric.better, found.limits.max_drop) == ("right", "higher", 8)
    [tried] = found.tried
    # The labels are what the version answers: as many rows are lost as changed their class.
    assert tried.drop == pytest.approx(160 * (1 - (tried.agreement or 0.0)))
    assert tried.grain == 1.6
    page = page_of_search(found)
    assert all(told in page for told in ("drop of right", "At most 8 may be lost.", f"right ↑ {own}:right sha256:{found.metric.digest}"))
    with open_store(home) as store:
        searched, handed_over = (store.events(kind=kind)[-1].data for kind in ("version.optimized", "version.imported"))
    assert searched["metric"] == handed_over["metric"] == found.metric.as_json()


@pytest.mark.usefixtures("only_int8")
def test_where_the_function_fails_on_a_candidate_that_is_refused_and_the_search_goes_on(home: Path, tmp_path: Path):
    with np.load(tmp_path / "data.npz") as data:
        mean = towline.load("m", home=home).predict(data["x"][40:])[:, 0].mean()
    own = right_rows(tmp_path, f"    if abs(answers[:, 0].mean() - {mean}) > 1e-6:\n        raise ValueError('these are others')\n")

    found = optimize("m", tmp_path / "data.npz", passes=(SMALL, Slim()), limits=Limits(max_drop=8), metric=f"{own}:right", home=home)

    int8, slim = found.tried
    assert (int8.fits, int8.because) == (False, f"{own}:right failed: ValueError: these are others")
    assert slim.fits


def test_verdicts_are_not_taken_up_by_another_metric_nor_by_a_changed_function(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    searches: list[str] = []
    real = Journal.of
    monkeypatch.setattr(Journal, "of", lambda folder, search: [searches.append(search), real(folder, search)][1])

    def search(metric: str) -> None:
        optimize("m", tmp_path / "data.npz", limits=Limits(max_drop=0.1), metric=metric, budget_s=1e-6, home=home)

    own = right_rows(tmp_path)
    for metric in ("", "f1", f"{own}:right"):
        search(metric)
    own.write_text(own.read_text() + "# Another.\n")
    search(f"{own}:right")

    assert len(set(searches)) == 4


def right_rows(folder: Path, before: str = "") -> Path:
    file = folder / "mine.py"
    file.write_text(f"def right(answers, truth):\n{before}    return int((answers.argmax(1) == truth).sum())\nright.better = 'higher'\n")
    return file


def test_who_asks_for_fixed_sizes_gets_a_version_that_says_so_and_refuses_others(tmp_path: Path, only_int8: None):
    home = tmp_path / "home"
    towline.import_model(tiny_models.write(tmp_path, tiny_models.token_vectors(), "m.onnx"), name="m", home=home)
    ids = np.random.default_rng(0).integers(0, 64, (60, 7))
    np.savez(tmp_path / "tokens.npz", input_ids=ids, attention_mask=np.ones_like(ids), labels=np.zeros((60, 7, 4)))

    made = optimize("m", tmp_path / "tokens.npz", passes=(FixShape(),), home=home).result

    assert made is not None
    assert [spec.shape for spec in made.version.manifest.signature.inputs] == [("N", 7), ("N", 7)]
    assert made.version.manifest.golden, "other requests than its parent's, which were of other lengths"
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    assert towline.load("m:2", home=home).predict(inputs)["vectors"].shape == (60, 7, 4)
    shorter = {name: array[:, :3] for name, array in inputs.items()}
    assert towline.load("m:1", home=home).predict(shorter)["vectors"].shape == (60, 3, 4)
    with pytest.raises(TowlineError, match="7"):
        towline.load("m:2", home=home).predict(shorter)


@pytest.mark.usefixtures("quick")
def test_the_output_that_was_named_is_what_judges(tmp_path: Path):
    towline.import_model(tiny_models.write(tmp_path, two_answers(), "two.onnx"), name="two", home=tmp_path / "home")
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    np.savez(tmp_path / "two.npz", x=x, labels=x.argmax(axis=1))

    found = optimize("two", tmp_path / "two.npz", passes=(Half(),), options=Options(output="plain"), home=tmp_path / "home")

    assert found.tried[0].fits, found.tried[0].because
    with pytest.raises(UsageError, match="several outputs could be meant"):
        optimize("two", tmp_path / "two.npz", passes=(Half(),), home=tmp_path / "home")


def two_answers() -> bytes:
    """Two outputs of one shape: `plain` is the input, `turned` its negative."""
    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "plain", "turned")]
    nodes = [helper.make_node("Identity", ["x"], ["plain"]), helper.make_node("Neg", ["x"], ["turned"])]
    graph = helper.make_graph(nodes, "two", spec[:1], spec[1:])
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    return model


def test_too_few_rows_are_refused(home: Path, tmp_path: Path):
    np.savez(tmp_path / "few.npz", x=np.zeros((4, 10), np.float32), labels=np.zeros(4, np.int64))

    with pytest.raises(UsageError, match="at least 5"):
        optimize("m", tmp_path / "few.npz", home=home)


@pytest.mark.usefixtures("quick")
def test_a_search_that_is_interrupted_goes_on_where_it_was(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[Pass] = []
    real = workshop.run_pass

    def counted(chosen: Pass, *rest: object) -> object:
        asked.append(chosen)
        if chosen == SMALL and asked.count(SMALL) == 1:
            raise KeyboardInterrupt
        return real(chosen, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(workshop, "run_pass", counted)
    for place in (optimizing, workshop):
        monkeypatch.setattr(place, "chosen", lambda tried: None)

    stopped = optimize("m", tmp_path / "data.npz", passes=(Slim(), SMALL), home=home)
    whole = optimize("m", tmp_path / "data.npz", passes=(Slim(), SMALL), home=home)

    assert stopped.stopped == "It was interrupted."
    assert [one.tried.last for one in stopped.tried] == [Slim()]
    assert [one.tried.last for one in whole.tried] == [Slim(), SMALL]
    assert asked == [Slim(), SMALL, SMALL]


@pytest.mark.usefixtures("quick")
def test_what_lacked_an_extra_is_tried_once_that_is_installed(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = workshop.run_pass

    def lacking(*rest: object) -> object:
        raise MissingExtra("This needs a package.", hint="Install it: pip install 'towline[optimize]'")

    for place in (optimizing, workshop):
        monkeypatch.setattr(place, "chosen", lambda tried: None)
    monkeypatch.setattr(workshop, "run_pass", lacking)
    [before] = optimize("m", tmp_path / "data.npz", passes=(SMALL,), home=home).tried
    monkeypatch.setattr(workshop, "run_pass", real)
    [after] = optimize("m", tmp_path / "data.npz", passes=(SMALL,), home=home).tried

    assert before.because == "This needs a package. Install it: pip install 'towline[optimize]'"
    assert after.because != before.because
    assert after.size_ratio > 0


def test_two_runs_with_one_seed_make_the_same_choice(home: Path, tmp_path: Path):
    # A network that eight bits gain far more for than noise, by whichever way their ranges are found.
    towline.import_model(BENCH_CNN, name="cnn", home=home)
    images = np.random.default_rng(0).uniform(size=(200, 1, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=images, labels=towline.load("cnn:1", home=home).predict(images).argmax(axis=1))
    ways = [Slim(), *(Int8(calibration=how) for how in ("minmax", "percentile"))]

    found = [
        optimize("cnn:1", tmp_path / "images.npz", passes=ways, limits=Limits(max_drop=0.2), options=Options(seed=7), home=home)
        for _ in range(2)
    ]

    first, second = (one.best for one in found)
    assert first is not None, found[0].tried
    assert second is not None, found[1].tried
    assert first.tried == second.tried
    models = [one.result.version.path / one.result.version.manifest.model_file for one in found if one.result is not None]
    assert models[0].read_bytes() == models[1].read_bytes()


def test_weights_that_are_stored_are_never_handed_to_another_pass(tmp_path: Path):
    with pytest.raises(UsageError, match=r"'stored int8' comes last in a chain, and 'int8' comes after it") as refused:
        optimize("m", tmp_path / "data.npz", passes=[Chain((Slim(), Stored(8), Int8()))], home=tmp_path / "home")

    assert refused.value.hint == "Write Chain((Int8(…), Stored(…)))."


def test_a_budget_that_is_spent_stops_before_the_next_pass(home: Path, tmp_path: Path):
    assert optimize("m", tmp_path / "data.npz", budget_s=1e-6, home=home).stopped == "The time was up."


def test_a_journal_survives_a_torn_line(tmp_path: Path):
    journal = Journal.of(tmp_path, "search")
    tried = Tried(Chain((SMALL,)), True, 1.5, 0.3, 0.001, "", 1.4, 0.98, ("It kept 3 of 4 channels.",), {"loss": (0.5, 0.25)})
    journal.write(tried)
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes() + b'{"key": "torn')

    again = Journal.of(tmp_path, "search")

    assert again.result(Chain((SMALL,))) == tried
    assert again.result(Chain((Slim(),))) is None
    assert Journal.of(tmp_path, "another").result(Chain((SMALL,))) is None
