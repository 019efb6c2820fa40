"""Models from a bucket of Google's storage: an emulator that pip installs, and gcsfs, both in an environment of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_clients import TOWLINE, Storage

from towline.testing import tiny_models

pytestmark = pytest.mark.services
GS = Storage("gs")


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variable by which Google's own libraries find an emulator, and ask it without credentials."""
    with GS.server(tmp_path_factory.mktemp("gs")) as told:
        yield {"STORAGE_EMULATOR_HOST": told["url"]}


def test_a_model_in_googles_storage_is_imported(tmp_path: Path, emulator: dict[str, str]) -> None:
    done = GS.run(tmp_path, TOWLINE, "import", "gs://bucket/models/mlp.onnx", "--home", str(tmp_path / "home"), "--json", **emulator)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "mlp"


def test_what_googles_storage_does_not_have_is_told_and_a_folder_comes_whole(tmp_path: Path, emulator: dict[str, str]) -> None:
    size = len(tiny_models.mlp())
    names = ("models/none.onnx", "models/large.onnx", "folder")
    missing, large, folder = GS.fetch(tmp_path, *(f"gs://bucket/{name}" for name in names), **emulator)

    assert missing == ["NOT_FOUND", "There is nothing at gs://bucket/models/none.onnx. Check the bucket and the path."]
    assert large == ["TOO_LARGE", "gs://bucket/models/large.onnx has 2,097,152 bytes; at most 1,048,576 are fetched. "]
    assert folder == [["folder/1/model.onnx", size], ["folder/notes.txt", 1]]
