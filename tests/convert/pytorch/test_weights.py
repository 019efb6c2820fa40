"""A file of weights says whose they are, without torch and without being unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pickles import checkpoint, old, reducing, state_dict, zipped

from towline.convert.torch.weights import contents, refuse_without_code
from towline.core.errors import ImportRefused

SHAPES = {"0.weight": (16, 10), "0.bias": (16,), "2.weight": (4, 16)}


def safetensors(path: Path, entries: dict[str, Any], body: bytes) -> Path:
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + body)
    return path


def two_tensors(path: Path, body: bytes = bytes(24)) -> Path:
    entries = {
        "__metadata__": {"format": "pt"},
        "0.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
        "0.bias": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
    }
    return safetensors(path, entries, body)


def refusal(path: Path, kind: str = "state_dict") -> ImportRefused:
    with pytest.raises(ImportRefused) as caught:
        refuse_without_code(path, kind, path.name)
    return caught.value


def test_weights_without_code_are_refused_with_the_command_that_takes_them(tmp_path: Path) -> None:
    refused = refusal(zipped(tmp_path / "mlp.pth", state_dict(SHAPES)))

    assert refused.code == "ARCHITECTURE_NEEDED"
    assert "weights only" in refused.message
    assert "takes 10 features; it ends in 4 values" in refused.message
    assert refused.hint == "Give the code: towline import mlp.pth --name NAME --arch model.py:Class"


def test_weights_of_a_known_architecture_name_it(tmp_path: Path) -> None:
    shapes = {"features.18.0.weight": (1280, 320, 1, 1), "features.1.conv.0.0.weight": (32, 1, 3, 3), "classifier.1.weight": (1000, 1280)}
    wrapped = {f"module.{name}": shape for name, shape in shapes.items()}

    refused = refusal(zipped(tmp_path / "m.pth", checkpoint(wrapped)))

    assert "from their names it is mobilenet_v2, 1000 classes" in refused.message
    assert refused.hint.endswith("--arch 'torchvision:mobilenet_v2'")


def test_an_old_checkpoint_is_read_like_a_new_one(tmp_path: Path) -> None:
    assert contents(old(tmp_path / "old.pth", state_dict(SHAPES)), "state_dict").shapes == SHAPES


def test_a_pickled_module_names_its_class(tmp_path: Path) -> None:
    refused = refusal(zipped(tmp_path / "net.pt", reducing("nets", "Net")), "torch_module")

    assert "a pickled object of class 'nets.Net'" in refused.message
    assert refused.hint == "Give the code: towline import net.pt --name NAME --arch FILE.py:Net"


def test_a_module_in_a_wrapper_names_the_code_that_is_needed(tmp_path: Path) -> None:
    inner = reducing("nets", "Net")[2:-1]
    wrapped = b"\x80\x02ctorch.nn.parallel.data_parallel\nDataParallel\n(" + inner + b"tR."

    assert "class 'nets.Net'" in refusal(zipped(tmp_path / "net.pt", wrapped), "torch_module").message


def test_a_pickled_module_of_torchvision_says_so(tmp_path: Path) -> None:
    refused = refusal(zipped(tmp_path / "net.pt", reducing("torchvision.models.squeezenet", "SqueezeNet")), "torch_module")

    assert refused.hint.endswith("--arch torchvision:squeezenet")


def test_a_module_of_pytorchs_own_layers_needs_no_code(tmp_path: Path) -> None:
    refuse_without_code(zipped(tmp_path / "net.pt", reducing("torch.nn.modules.container", "Sequential")), "torch_module")


def test_a_file_without_weights_is_refused(tmp_path: Path) -> None:
    assert refusal(zipped(tmp_path / "empty.pth", b"\x80\x02}.")).code == "NO_WEIGHTS"


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_torn_checkpoint_is_refused(tmp_path: Path, share: float) -> None:
    whole = zipped(tmp_path / "whole.pth", state_dict(SHAPES)).read_bytes()
    torn = tmp_path / "torn.pth"
    torn.write_bytes(whole[: int(len(whole) * share)])

    assert refusal(torn).code == "TORN_FILE"


def test_a_table_of_contents_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("towline.convert.torch.weights.MAX_BYTES", 100)

    assert refusal(zipped(tmp_path / "bomb.pth", state_dict(SHAPES))).code == "TORN_FILE"


def test_safetensors_are_told_by_their_header(tmp_path: Path) -> None:
    assert contents(two_tensors(tmp_path / "w.safetensors"), "safetensors").shapes == {"0.weight": (2, 2), "0.bias": (2,)}
    assert refusal(tmp_path / "w.safetensors", "safetensors").code == "ARCHITECTURE_NEEDED"


@pytest.mark.parametrize("body", [b"", bytes(23), bytes(25)])
def test_safetensors_of_another_size_than_their_header_says_are_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(ImportRefused, match=r"The tensors need \d+ bytes, the file has \d+"):
        contents(two_tensors(tmp_path / "w.safetensors", body), "safetensors")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{}}", b"\x02\0\0\0\0\0\0\0[]", b'\x05\0\0\0\0\0\0\0{"a":1}', b'\x09\0\0\0\0\0\0\0{"a":{}}  '],
)
def test_a_header_that_is_no_table_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "w.safetensors").write_bytes(raw)

    with pytest.raises(ImportRefused):
        contents(tmp_path / "w.safetensors", "safetensors")
