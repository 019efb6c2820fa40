"""Adversarial steps find what a network is most wrong about, and go no further than they may."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import towline
import towline.app
from towline.app.home import opened_store
from towline.app.judging.attacking import attacked
from towline.app.judging.judge import Options, labels_of, measure_version, opened_data
from towline.core.refs import parse_ref
from towline.testing import tiny_models

pytestmark = pytest.mark.frameworks

DEMO = Path(towline.app.__file__).parent / "demo" / "data"
SHARE = 0.1


@pytest.fixture
def home(environments: Path, tmp_path: Path) -> Path:
    found = json.loads((DEMO / "digits_200.json").read_bytes())
    images = np.array(found["images"], np.float32).reshape(-1, 1, 8, 8)
    np.savez(tmp_path / "digits.npz", image=images, labels=np.array(found["labels"], np.int64))
    towline.import_model(DEMO / "digits.onnx", name="digits", home=tmp_path / "home")
    return tmp_path / "home"


def test_more_steps_do_more_harm_and_chance_much_less(home: Path, tmp_path: Path):
    tested = measure_version("digits", tmp_path / "digits.npz", options=Options(speed=False, adversarial=SHARE), home=home)

    figures = tested.robustness
    assert figures["pgd"] <= figures["fgsm"] < figures["noise"]
    assert figures["fgsm"] < figures["clean"] - 0.05
    assert tested.figures["accuracy_pgd"] == figures["pgd"]


def test_no_row_goes_further_than_it_may_nor_out_of_the_range(home: Path, tmp_path: Path):
    with opened_store(home) as store:
        version = store.version(parse_ref("digits"))
    data = opened_data(tmp_path / "digits.npz", version.manifest, labels_of(version, version.manifest), Options())
    was = data.read(0, data.rows)["image"]

    found, why_not = attacked(version, data, version.manifest.signature.outputs[0].name, SHARE)

    assert why_not == ""
    for name, moved in found.items():
        now = moved.read(0, moved.rows)["image"]
        assert 0 < np.abs(now - was).max() <= SHARE * (was.max() - was.min()) + 1e-5, name
        assert was.min() <= now.min() <= now.max() <= was.max()


def test_where_there_is_no_gradient_a_note_says_so(environments: Path, tmp_path: Path):
    towline.import_model(
        tiny_models.write(tmp_path, tiny_models.identity("float32", ("N", 10)), "m.onnx"), name="m", home=tmp_path / "home"
    )
    np.savez(tmp_path / "d.npz", x=np.eye(10, dtype=np.float32), labels=np.arange(10))

    tested = measure_version("m", tmp_path / "d.npz", options=Options(speed=False, adversarial=SHARE), home=tmp_path / "home")

    assert any(note.startswith("No adversarial steps: ") for note in tested.notes)
    assert "pgd" not in tested.robustness
