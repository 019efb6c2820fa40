"""Versions with declared processing: what import proves of a graph it proves of the whole way from bytes to labels."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import towline
from towline.app.importing.model import ImportResult, import_model
from towline.cli.main import main
from towline.core.errors import EngineError, ImportRefused, UsageError
from towline.core.frames import decode_frame
from towline.core.version import Version
from towline.testing import tiny_models

IMAGE = """
[[before]]
step = "image"

[[before]]
step = "resize"
width = 8
height = 8

[[before]]
step = "normalise"

[[after]]
step = "softmax"

[[after]]
step = "top_k"
k = 2

[[after]]
step = "labels"
"""


def picture(colour: tuple[int, int, int], kind: str = "PNG") -> bytes:
    place = io.BytesIO()
    Image.new("RGB", (12, 9), colour).save(place, kind)
    return place.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colours")
    tiny_models.write(folder, tiny_models.mean_colour(), "colours.onnx")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    (folder / "processing.toml").write_text(IMAGE)
    (folder / "blue.jpg").write_bytes(picture((10, 20, 240), "JPEG"))
    return folder


def import_colours(folder: Path, **more: object) -> ImportResult:
    given = {"labels": folder / "labels.txt", "processing": folder / "processing.toml", **more}
    return import_model(folder / "colours.onnx", home=folder / "home", **given)


@pytest.fixture(scope="module")
def colours(folder: Path) -> Version:
    return import_colours(folder).version


def test_the_whole_way_from_bytes_to_labels_is_proven_like_a_graph(colours: Version) -> None:
    manifest = colours.manifest

    assert manifest.batchable, manifest.unbatchable_because
    assert manifest.measured.deterministic
    # How far it climbs to 256 depends on the time that this machine gives it.
    assert manifest.measured.max_batch > 1
    assert [(spec.name, spec.dtype, spec.shape) for spec in manifest.signature.inputs] == [("image", "string", ("N",))]
    assert [spec.name for spec in manifest.signature.outputs] == ["label", "score", "index"]
    assert manifest.signatures["tensors"].inputs[0].name == "x"
    assert {"pillow", "onnxruntime"} <= set(manifest.origin.tools)


def test_people_are_told_what_is_done_around_the_graph(colours: Version, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(colours), "--home", str(folder / "home")]) == 0

    assert "image · resize · normalise · layout · the graph · softmax · top_k · labels" in capfd.readouterr().out


def test_golden_requests_are_encoded_pictures_with_their_labels(colours: Version) -> None:
    for golden in colours.manifest.golden:
        request = decode_frame((colours.path / golden.request).read_bytes())
        response = decode_frame((colours.path / golden.response).read_bytes())
        assert all(raw.startswith(b"\x89PNG") for raw in request["image"])
        assert set(response["label"].reshape(-1)) <= {b"red", b"green", b"blue"}
    assert len(colours.manifest.golden) == 4


def test_the_largest_picture_that_is_allowed_counts_in_the_memory(colours: Version) -> None:
    decoded_bytes = 16_777_216 * 3

    assert colours.manifest.measured.memory_peak_bytes >= decoded_bytes > 2 * colours.manifest.measured.memory_loaded_bytes


def test_a_loaded_version_takes_pictures_and_gives_labels(colours: Version, folder: Path) -> None:
    model = towline.load(str(colours), home=folder / "home")

    answer = model.predict([picture((240, 10, 20)), picture((10, 20, 240))])

    assert answer["label"][:, 0].tolist() == [b"red", b"blue"]
    assert answer["index"][:, 0].tolist() == [0, 2]
    assert answer["score"].shape == (2, 2)
    with pytest.raises(EngineError, match=r"image\[1\] is no JPEG"):
        model.predict([picture((1, 2, 3)), b"nothing"])


def test_the_same_declaration_is_known_again_and_another_is_another_version(colours: Version, folder: Path) -> None:
    assert import_colours(folder).existed
    (folder / "other.toml").write_text(IMAGE.replace("k = 2", "k = 3"))

    other = import_colours(folder, processing=folder / "other.toml")

    assert not other.existed
    assert other.version.digest != colours.digest
    assert import_colours(folder).version.digest == colours.digest


def test_a_picture_of_the_users_is_a_golden_request(colours: Version, folder: Path) -> None:
    version = import_colours(folder, sample=folder / "blue.jpg").version
    first = version.manifest.golden[0]

    assert decode_frame((version.path / first.request).read_bytes())["image"].tolist() == [(folder / "blue.jpg").read_bytes()]
    assert decode_frame((version.path / first.response).read_bytes())["label"][0, 0] == b"blue"
    assert version.manifest.batchable


def test_a_sample_that_is_no_picture_is_refused(folder: Path) -> None:
    with pytest.raises(ImportRefused, match=r"image\[0\] is no JPEG"):
        import_colours(folder, sample=folder / "labels.txt", name="other")


def test_a_preset_finds_size_layout_and_scores_by_itself(folder: Path) -> None:
    declared = import_colours(folder, processing=None, preset="imagenet", name="preset").version.manifest.processing
    settings = {step.kind: step.settings for step in (*declared.before, *declared.after)}

    assert settings["resize"]["shorter"] == 9
    assert (settings["crop"]["width"], settings["crop"]["height"]) == (8, 8)
    assert settings["layout"]["order"] == "NCHW"
    assert settings["normalise"]["mean"] == [0.485, 0.456, 0.406]
    assert [step.kind for step in declared.after] == ["softmax", "top_k", "labels"]


def test_a_preset_and_a_declaration_exclude_each_other(folder: Path) -> None:
    with pytest.raises(UsageError, match="Both"):
        import_colours(folder, preset="imagenet")
    with pytest.raises(UsageError, match="no preset 'imagnet'"):
        import_colours(folder, processing=None, preset="imagnet")


def test_a_version_whose_rows_lean_on_one_another_is_still_found_out(folder: Path) -> None:
    """Softmax over the rows: the declaration changes nothing about the proof."""
    tiny_models.write(folder, tiny_models.softmax_over_rows(), "leaning.onnx")
    (folder / "table.toml").write_text('[[before]]\nstep = "tabular"\ncolumns = ["a", "b", "c"]\n')

    version = import_model(folder / "leaning.onnx", processing=folder / "table.toml", home=folder / "home").version

    assert not version.manifest.batchable
    assert np.isfinite(version.manifest.measured.memory_peak_bytes)


TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1, "time": 2, "year": 3, "tree": 4, "good": 5}, "unk_token": "[UNK]"},
    **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
}
OTHER_KINDS = {
    "sound": (tiny_models.loudness(), '[[before]]\nstep = "audio"\n[[before]]\nstep = "resample"\nrate = 8000\n', ""),
    "text": (tiny_models.bag_of_tokens(), '[[before]]\nstep = "text"\ntokenizer = "tokenizer.json"\n', ""),
    "padded text": (
        tiny_models.bag_of_tokens(masked=False),
        '[[before]]\nstep = "text"\ntokenizer = "tokenizer.json"\npadding = "longest"\n',
        "changes with",
    ),
    "table": (
        tiny_models.linear(features=3),
        '[[before]]\nstep = "tabular"\ncolumns = ["age", "size"]\n[[before]]\nstep = "category"\ncolumn = "size"\nvalues = ["S", "M"]\n',
        "",
    ),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_sounds_texts_and_tables_are_proven_with_inputs_made_for_them(kind: str, tmp_path: Path) -> None:
    graph, declared, unbatchable = OTHER_KINDS[kind]
    model = tiny_models.write(tmp_path, graph, "model.onnx")
    (tmp_path / "processing.toml").write_text(declared)
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))

    manifest = import_model(model, processing=tmp_path / "processing.toml", home=tmp_path / "home").version.manifest

    assert manifest.batchable == (not unbatchable), manifest.unbatchable_because
    assert unbatchable in manifest.unbatchable_because
    assert manifest.measured.deterministic
    assert manifest.golden
