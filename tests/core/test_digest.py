"""A folder is named by what is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from towline.core.digest import folder_digest, folder_files
from towline.core.errors import VersionError
from towline.core.version import check_sealed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "version"
    (made / "model").mkdir(parents=True)
    (made / "manifest.json").write_bytes(b"{}")
    (made / "model" / "model.onnx").write_bytes(b"weights")
    return made


def test_the_same_files_give_the_same_digest_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    (other / "model").mkdir(parents=True)
    (other / "model" / "model.onnx").write_bytes(b"weights")
    (other / "manifest.json").write_bytes(b"{}")

    assert folder_digest(folder) == folder_digest(other)


@pytest.mark.parametrize("change", ["a byte", "a name", "one more file", "one file less", "bytes moved between files"])
def test_any_change_is_another_digest(folder: Path, change: str) -> None:
    before = folder_digest(folder)
    match change:
        case "a byte":
            (folder / "model" / "model.onnx").write_bytes(b"Weights")
        case "a name":
            (folder / "model" / "model.onnx").rename(folder / "model" / "model2.onnx")
        case "one more file":
            (folder / "extra").write_bytes(b"")
        case "one file less":
            (folder / "manifest.json").unlink()
        case _:
            (folder / "manifest.json").write_bytes(b"{")
            (folder / "model" / "model.onnx").write_bytes(b"}weights")

    assert folder_digest(folder) != before
    with pytest.raises(VersionError, match="were changed after sealing"):
        check_sealed(folder, before)


def test_an_empty_folder_inside_counts_for_nothing(folder: Path) -> None:
    before = folder_digest(folder)
    (folder / "empty").mkdir()

    assert folder_digest(folder) == before


@pytest.mark.parametrize("kind", ["symbolic link", "hard link", "pipe", "linked folder"])
def test_what_is_no_plain_file_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    outside = tmp_path / "outside"
    match kind:
        case "symbolic link":
            outside.write_bytes(b"secret")
            (folder / "link").symlink_to(outside)
        case "hard link":
            outside.write_bytes(b"secret")
            os.link(outside, folder / "link")
        case "pipe":
            os.mkfifo(folder / "link")
        case _:
            outside.mkdir()
            (folder / "link").symlink_to(outside)

    with pytest.raises(VersionError, match="'link' in a version is not a plain file"):
        folder_files(folder)


def test_a_name_with_a_line_break_cannot_forge_a_listing(folder: Path) -> None:
    (folder / "a\nb").write_bytes(b"")

    with pytest.raises(VersionError, match="control characters"):
        folder_digest(folder)
