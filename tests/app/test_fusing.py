"""A fused graph does the steps itself, answers as they do, and is refused where it does not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import towline
from towline.app.importing.fusing import compared
from towline.app.importing.model import import_model
from towline.core.errors import ImportRefused, UsageError
from towline.testing import tiny_models

STEPS = """
[[before]]
step = "image"

[[before]]
step = "resize"
shorter = 26

[[before]]
step = "crop"
width = 24
height = 20

[[before]]
step = "normalise"
mean = [0.1, 0.2, 0.3]
std = [0.5, 0.25, 0.125]

[[after]]
step = "softmax"

[[after]]
step = "top_k"
k = 2

[[after]]
step = "labels"
"""


def picture(size: tuple[int, int]) -> Image.Image:
    coarse = np.random.default_rng(size[0]).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(np.repeat(np.repeat(coarse, 4, 0), 4, 1)[: size[1], : size[0]])


def encoded(image: Image.Image) -> bytes:
    place = io.BytesIO()
    image.save(place, "PNG")
    return place.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fusing")
    tiny_models.write(folder, tiny_models.mean_colour(height=20, width=24), "colours.onnx")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "steps.toml").write_text(STEPS)
    return folder


def load(folder: Path, *, fuse: bool) -> towline.app.predicting.load.Model:
    given = {"labels": folder / "labels.txt", "processing": folder / "steps.toml", "home": folder / "home"}
    name = "fused" if fuse else "plain"
    import_model(folder / "colours.onnx", name=name, fuse=fuse, **given)
    return towline.load(name, home=folder / "home")


def test_a_fused_version_takes_pictures_and_answers_as_the_steps_do(folder: Path) -> None:
    plain, fused = load(folder, fuse=False), load(folder, fuse=True)
    raws = [encoded(picture(size)) for size in ((40, 30), (30, 41), (64, 64), (9, 9))]

    for raw in raws:
        expected, got = plain.predict([raw]), fused.predict([raw])
        assert got["label"].tolist() == expected["label"].tolist()
        np.testing.assert_allclose(got["score"], expected["score"], atol=2e-3)
    assert fused.signature == plain.signature
    assert fused.manifest.batchable
    assert [step.kind for step in fused.manifest.processing.before] == ["image", "layout"]
    assert fused.manifest.processing.after == ()
    assert fused.version.digest != plain.version.digest


def test_the_fused_file_needs_nothing_but_onnx(folder: Path) -> None:
    fused = load(folder, fuse=True)
    image = picture((50, 37))
    session = onnxruntime.InferenceSession((fused.version.path / fused.manifest.model_file).read_bytes())

    answer = dict(zip([one.name for one in session.get_outputs()], session.run(None, {"pixels": np.asarray(image)[None]}), strict=True))

    expected = fused.predict([encoded(image)])
    assert [word.encode() for word in answer["label"][0]] == expected["label"][0].tolist()
    assert np.array_equal(answer["score"], expected["score"])
    assert set(fused.manifest.facts.opset) == {"ai.onnx"}


def test_the_same_fused_import_is_known_again_and_says_how_it_differs(folder: Path) -> None:
    given = {"labels": folder / "labels.txt", "processing": folder / "steps.toml", "home": folder / "home"}
    first = import_model(folder / "colours.onnx", name="again", fuse=True, **given)

    assert any("score moves by up to" in warning for warning in first.report.warnings)
    assert import_model(folder / "colours.onnx", name="again", fuse=True, **given).existed
    assert not import_model(folder / "colours.onnx", name="again", **given).existed


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (STEPS.replace("shorter = 26", 'shorter = 26\nfilter = "lanczos"'), "the filter 'lanczos' cannot be fused"),
        ('[[before]]\nstep = "image"\n[[before]]\nstep = "pad"\nwidth = 24\nheight = 20\n', "'pad' cannot be fused"),
        ('[[after]]\nstep = "softmax"\n', "only processing that reads one picture can be fused; this reads nothing"),
    ],
)
def test_what_has_no_operator_is_named(folder: Path, tmp_path: Path, declared: str, said: str) -> None:
    (tmp_path / "steps.toml").write_text(declared)

    with pytest.raises(ImportRefused, match=said):
        import_model(
            folder / "colours.onnx", fuse=True, labels=folder / "labels.txt", processing=tmp_path / "steps.toml", home=tmp_path / "home"
        )


def test_there_must_be_something_to_fuse(folder: Path) -> None:
    with pytest.raises(UsageError, match="needs steps"):
        import_model(folder / "colours.onnx", fuse=True, home=folder / "home")


def test_a_graph_that_answers_otherwise_is_refused_by_how_much() -> None:
    before = {"score": np.array([[0.9], [0.8]], np.float32), "index": np.array([[1], [2]])}

    assert (
        compared(before, before)
        == "Fused: beside the steps one by one, score moves by up to 0, the first class is the same in 100% of 2 rows."
    )
    with pytest.raises(ImportRefused, match=r"score moves by up to 0\.1, where 0\.028 is allowed"):
        compared(before, {**before, "score": before["score"] - np.float32(0.1)})
    with pytest.raises(ImportRefused, match="the first class is the same in only 50% of 2 rows"):
        compared(before, {**before, "index": np.array([[1], [0]])})
