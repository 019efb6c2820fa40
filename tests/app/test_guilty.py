"""A comparison names the class that lost the most, and where the second was made of the first, the layers to blame and what may help."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import towline
from towline.app.importing.sealing import Order
from towline.app.judging.compare import compare
from towline.app.judging.compared_figures import right_rows
from towline.app.judging.comparison import Comparison
from towline.app.judging.guilty import came_from, remedy
from towline.app.judging.judge import Options
from towline.app.judging.pages import page_of_comparison
from towline.app.optimizing.candidates import draft, sealed
from towline.cli.judged_words import compared_lines
from towline.core.refs import parse_ref
from towline.optimize.base import Chain
from towline.optimize.graph import Half
from towline.serve.workers.local import LocalWorker
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.verify.gates import Gate, gate, verdicts

# Four versions made and looked into: in the tier that has the time.
pytestmark = pytest.mark.services

QUICK = Options(speed=False)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """m:1; m:2 made of it with half a convolution lost; m:3 made of m:2 with nothing changed; m:4, a stranger."""
    folder = tmp_path_factory.mktemp("guilty")
    whole = tiny_models.write(folder, tiny_models.convolutions(seed=3), "whole.onnx")
    broken = tiny_models.write(folder, tiny_models.convolutions(seed=3, kept=0.6), "broken.onnx")
    towline.import_model(whole, name="m", home=folder / "home")
    for parent, model in ((1, broken), (2, broken)):
        with open_store(folder / "home") as store:
            of = store.version(parse_ref(f"m:{parent}"))
            order = Order(store, "m", None, "test", "", LocalWorker.start, print)
            with store.stage() as staged:
                sealed(order, of, draft(of, Chain((Half(),)), model, staged), {}, ())
    towline.import_model(tiny_models.write(folder, tiny_models.convolutions(seed=5), "other.onnx"), name="m", home=folder / "home")
    return folder / "home"


@pytest.fixture(scope="module")
def data(home: Path) -> Path:
    """What m:1 answers."""
    size = np.random.default_rng(1).normal(size=(120, 3, 1, 1))
    x = (size * np.random.default_rng(0).normal(size=(120, 3, 8, 8))).astype(np.float32)
    np.savez(home / "data.npz", image=x, labels=towline.load("m:1", home=home).predict(x).argmax(axis=1))
    return home / "data.npz"


def beside(home: Path, data: Path, second: str, gates: Sequence[Gate] = ()) -> Comparison:
    return compare("m:1", second, data, gates=gates, options=QUICK, home=home)


@pytest.fixture(scope="module")
def broken(home: Path, data: Path) -> Comparison:
    return beside(home, data, "m:2", [gate("drop", "<= 0.3pt"), gate("agreement", ">= 99 %"), gate("worst_class_drop", "<= 0.5")])


def test_the_layer_that_was_broken_is_named_and_the_command_that_may_help(broken: Comparison, data: Path):
    found = broken

    assert [one.name for one in found.guilty] == ["conv2"], "what comes after it only carries its noise on"
    assert found.guilty[0].before_db > 100 > 20 > found.guilty[0].snr_db
    assert found.remedy == f"towline optimize m:1 --data {data} --max-drop 0.3pt --min-agreement 99%"
    assert not found.passed
    told = found.as_json()
    assert told["guilty"] == [vars(one) for one in found.guilty]
    assert told["remedy"] == found.remedy
    assert f"  moves the most: {found.guilty[0].words()}" in compared_lines(found)
    page = page_of_comparison(found)
    assert f"<td>conv2</td><td>Conv</td><td>200.0</td><td>{found.guilty[0].snr_db:.1f}</td>" in page
    assert f"<code>{found.remedy}</code>" in page


def test_a_grandchild_is_looked_into_as_well_and_a_stranger_is_not(home: Path, data: Path):
    assert [one.name for one in beside(home, data, "m:3").guilty] == ["conv2"]

    stranger = beside(home, data, "m:4")

    assert stranger.differs
    assert (stranger.guilty, stranger.remedy) == ((), "")
    with open_store(home) as store:
        versions = [store.version(parse_ref(f"m:{number}")) for number in (1, 2, 3, 4)]
        assert [came_from(store, one, versions[0]) for one in versions] == [False, True, True, False]
        assert not came_from(store, versions[1], versions[2])


def test_what_answers_alike_is_not_looked_into_and_a_gate_on_something_else_still_gets_its_command(home: Path, data: Path):
    alike = compare("m:2", "m:3", data, gates=[gate("size_mb", "<= 0.001")], options=QUICK, home=home)

    assert not alike.differs
    assert alike.guilty == ()
    assert alike.remedy.endswith("--max-size 0.001")
    assert compare("m:2", "m:3", data, options=QUICK, home=home).remedy == ""


def test_classes_that_lost_rows_are_told_the_surest_first_and_gates_read_the_worst(broken: Comparison):
    assert broken.classes
    assert broken.mcnemar is not None
    assert sum(one.lost for one in broken.classes) == broken.mcnemar.only_first
    assert sum(one.won for one in broken.classes) == 0, "the first is always right"
    assert broken.verdicts[2].value == pytest.approx(max(-one.difference for one in broken.classes))
    lost = next(line for line in compared_lines(broken) if line.startswith(f"  class {broken.classes[0].place}: recall 100.00 % became "))
    assert f"({broken.classes[0].lost} lost, 0 won, 95 % " in lost
    assert [one["support"] for one in broken.as_json()["classes"]] == [one.support for one in broken.classes]  # type: ignore[attr-defined]


def test_a_row_that_is_no_number_is_wrong_though_it_stands_where_the_right_class_would():
    scores = np.float32([[0.1, 0.9], [np.nan, 0.9], [0.9, np.inf], [0.9, 0.1]])

    assert right_rows(scores, np.array([1, 0, 1, 1])).tolist() == [True, False, False, False]


def test_the_command_keeps_the_words_of_the_comparison_and_quotes_them(home: Path):
    with open_store(home) as store:
        version = store.version(parse_ref("m:1"))
    wanted = [gate("p99_ms", "< 20"), gate("drop_sure", "<= 1pt"), gate("drop", "<= 2pt"), gate("accuracy", "== 1")]

    command = remedy(version, "held out.npz", Options(label="kind", limit=100), verdicts(wanted, {}))

    assert command == "towline optimize m:1 --data 'held out.npz' --max-p99 20 --max-drop 1pt --label kind --limit 100"
