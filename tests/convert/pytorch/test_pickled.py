"""What a pickle of PyTorch holds is read without running it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
from pickles import checkpoint, reducing, state_dict, stream, tensor, text

from towline.convert.torch.pickled import Made, Name, NotAPickle, Stored, code_names, is_layer, is_plain, read_pickle

SHAPES = {"layer.weight": (4, 10), "layer.bias": (4,), "scale": ()}


def test_a_state_dict_is_its_names_and_shapes() -> None:
    found = read_pickle(stream(state_dict(SHAPES)))

    assert found.root == {name: Stored(shape, "FloatStorage") for name, shape in SHAPES.items()}
    assert code_names(found.names) == ()


def test_nothing_that_a_pickle_names_is_called(tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    found = read_pickle(stream(reducing("os", "system", f"touch {canary}")))

    assert found.root == Made(Name("os", "system"), (f"touch {canary}",))
    assert not canary.exists()
    # The control: whoever unpickles it does run it.
    pickle.loads(reducing("os", "system", f"touch {canary}"))  # noqa: S301
    assert canary.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_every_protocol_is_read(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True], "b": (7, "y"), "c": {"d": -(2**70), "e": "é" * 300}, 5: ()}
    value["again"] = value["a"]

    assert read_pickle(stream(pickle.dumps(value, protocol=protocol))).root == value


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_objects_are_named_and_never_made(protocol: int) -> None:
    found = read_pickle(stream(pickle.dumps({"path": os.DirEntry, "error": OSError(2, "no")}, protocol=protocol)))

    assert Name("posix", "DirEntry") in found.names
    assert isinstance(found.root["error"], Made)


@pytest.mark.parametrize("end", [0, 1, 2, 10, -20, -2, -1])
def test_a_torn_pickle_is_refused(end: int) -> None:
    with pytest.raises(NotAPickle):
        read_pickle(stream(state_dict(SHAPES)[:end]))


@pytest.mark.parametrize(
    "torn", [b"\x80\x02.", b"\x80\x020.", b"\x80\x02h\x05.", b"\x80\x02t.", b"\x80\x02(K\x01u.", b"\x80\x02K\x01R.", b"\x80\x02\x82\x01."]
)
def test_a_pickle_that_no_one_wrote_is_refused(torn: bytes) -> None:
    with pytest.raises(NotAPickle):
        read_pickle(stream(torn))


def test_a_dict_that_holds_itself_is_read() -> None:
    value: dict[str, object] = {}
    value["self"] = value

    assert list(read_pickle(stream(pickle.dumps(value, protocol=2))).root) == ["self"]


def test_the_class_of_what_lies_beside_the_weights_is_told() -> None:
    beside = text("arguments") + b"cargparse\nNamespace\n)\x81}" + text("width") + b"K\x10sb"

    found = read_pickle(stream(checkpoint(SHAPES, beside)))

    assert code_names(found.names) == (Name("argparse", "Namespace"),)
    assert found.root["arguments"] == Made(Name("argparse", "Namespace"), (), {"width": 16})


def test_a_parameter_is_its_tensor() -> None:
    pickled = b"\x80\x02ctorch._utils\n_rebuild_parameter\n(" + tensor((3, 2)) + b"\x88ccollections\nOrderedDict\n)RtR."

    assert read_pickle(stream(pickled)).root == Stored((3, 2), "FloatStorage")


@pytest.mark.parametrize(
    ("name", "plain", "layer"),
    [
        (Name("torch", "FloatStorage"), True, False),
        (Name("torch", "bfloat16"), True, False),
        (Name("torch", "load"), False, False),
        (Name("torch", "Size"), True, False),
        (Name("torch._utils", "_rebuild_tensor_v2"), True, False),
        (Name("torch._utils", "os.system"), False, False),
        (Name("numpy._core.multiarray", "scalar"), True, False),
        (Name("__builtin__", "set"), True, False),
        (Name("builtins", "eval"), False, False),
        (Name("torch.storage", "_load_from_bytes"), False, False),
        (Name("torch.nn.modules.conv", "Conv2d"), False, True),
        (Name("torch.nn.modules.module", "torch.os.system"), False, False),
        (Name("posix", "system"), False, False),
        (Name("model", "Net"), False, False),
    ],
)
def test_weights_layers_and_code_are_told_apart(name: Name, plain: bool, layer: bool) -> None:
    assert (is_plain(name), is_layer(name)) == (plain, layer)
