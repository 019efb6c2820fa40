"""What a foreign source is, told from its first bytes or its folder's names."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from towline.convert.recognise import recognise


def _zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return path


def _kind(path: Path) -> str:
    found = recognise(path)
    return found.kind if found else ""


def test_each_framework_is_told_from_the_others(tmp_path: Path):
    assert _kind(_zip(tmp_path / "a.pt", "a/code/__torch__.py", "a/constants.pkl")) == "torchscript"
    assert _kind(_zip(tmp_path / "b.keras", "model.weights.h5")) == "keras"
    for name, head, kind in (
        ("c.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "keras_h5"),
        ("d.tflite", b"\x1c\0\0\0TFL3" + bytes(64), "tflite"),
        ("e.safetensors", (16).to_bytes(8, "little") + b'{"a":1}', "safetensors"),
        ("f.pkl", b"\x80\x04\x95csklearn.ensemble", "sklearn"),
        ("g.onnx", b"\x08\x0a\x12\x03abc", ""),
    ):
        (tmp_path / name).write_bytes(head)
        assert _kind(tmp_path / name) == kind, name


def test_of_a_tensorflow_serving_folder_the_highest_version_is_meant(tmp_path: Path):
    for number in ("2", "10"):
        (tmp_path / number).mkdir()
        (tmp_path / number / "saved_model.pb").touch()

    found = recognise(tmp_path)

    assert found is not None
    assert found.path == tmp_path / "10"
    assert found.what == "a TensorFlow SavedModel, version 10"


@pytest.mark.parametrize("given", ["model.ckpt-20", "model.ckpt-20.meta", "model.ckpt-20.index", "."])
def test_a_checkpoint_is_found_by_its_prefix_by_any_of_its_files_and_by_its_folder(tmp_path: Path, given: str):
    for step in ("9", "20"):
        for end in ("meta", "index", "data-00000-of-00001"):
            (tmp_path / f"model.ckpt-{step}.{end}").touch()

    found = recognise(tmp_path / given)

    assert found is not None
    assert (found.kind, found.entry) == ("tf1_checkpoint", "model.ckpt-20")
    assert set(found.files) == {f"model.ckpt-20.{end}" for end in ("meta", "index", "data-00000-of-00001")}


def test_what_is_no_model_is_nobodys(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")

    assert recognise(tmp_path / "notes.txt") is None
    assert recognise(tmp_path / "missing") is None
    assert recognise(tmp_path) is None


def test_an_archive_is_known_by_members_that_lie_behind_megabytes_of_weights(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "late.pt", "w") as archive:
        archive.writestr("late/data/0", bytes(1 << 20))
        archive.writestr("late/data.pkl", b"\x80\x02ctorch\nmodule\n")
        archive.writestr("late/code/__torch__.py", b"")
        archive.writestr("late/constants.pkl", b"")
    with zipfile.ZipFile(tmp_path / "dict.pth", "w") as archive:
        archive.writestr("dict/data/0", bytes(1 << 20))
        archive.writestr("dict/data.pkl", b"\x80\x02}q\x00.")

    assert _kind(tmp_path / "late.pt") == "torchscript"
    assert _kind(tmp_path / "dict.pth") == "state_dict"


def test_a_torn_archive_is_still_looked_at(tmp_path: Path):
    whole = _zip(tmp_path / "a.keras", "model.weights.h5").read_bytes()
    (tmp_path / "torn.keras").write_bytes(whole[: len(whole) // 2])

    assert _kind(tmp_path / "torn.keras") == "keras"
