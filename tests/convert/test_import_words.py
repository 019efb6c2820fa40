"""The options `input` and `arch` are read, and refused with what is wrong and how to write them."""

from __future__ import annotations

import pytest

from towline.convert.arch import Arch, parse_arch
from towline.convert.declared_inputs import parse_inputs
from towline.core.errors import ImportRefused, UsageError
from towline.core.manifest import TensorSpec


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("float32[N,3,224,224]", [("", "float32", ("N", 3, 224, 224))]),
        ("x=float32[N, 3]", [("x", "float32", ("N", 3))]),
        ("ids=int64[N,T],mask=int64[N,T]", [("ids", "int64", ("N", "T")), ("mask", "int64", ("N", "T"))]),
        ("float32[N,2], bool[N]", [("", "float32", ("N", 2)), ("", "bool", ("N",))]),
        ("x=float32[N,6],state.0=float32[N,8]", [("x", "float32", ("N", 6)), ("state.0", "float32", ("N", 8))]),
        ("float32[]", [("", "float32", ())]),
        ("petal length (cm)=float32[N,1],kind=string[N,1]", [("petal length (cm)", "float32", ("N", 1)), ("kind", "string", ("N", 1))]),
    ],
)
def test_inputs_are_read(text: str, specs: list[tuple[str, str, tuple[int | str, ...]]]) -> None:
    assert parse_inputs(text) == tuple(TensorSpec(*spec) for spec in specs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing is given"),
        ("float32", "'float32' is no input"),
        ("float33[N]", "'float33' is none of float32"),
        ("float32[N,-1]", "the dim '-1' is neither a size nor a name"),
        ("float32[N,0]", "the dim '0' is neither"),
        ("float32[N,,3]", "the dim '' is neither"),
        ("x=float32[N],x=float32[N]", "named twice"),
        ("float32[N] float32[N]", "is no input"),
        ("x=float32[N,3", "is no input"),
    ],
)
def test_what_is_no_input_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_inputs(text)

    assert said in caught.value.message
    assert caught.value.code == "BAD_INPUT_SPEC"
    assert "float32[N,3,224,224]" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "arch"),
    [
        ("/a/model.py:Net", Arch("/a/model.py", "Net")),
        ("/a/model.py:Net(width=8, deep=True)", Arch("/a/model.py", "Net", (), {"width": 8, "deep": True})),
        ("/a/model.py:Net([1, 2], 'a:b')", Arch("/a/model.py", "Net", ([1, 2], "a:b"))),
        ("torchvision:resnet50", Arch("torchvision", "resnet50")),
        ("torchvision:resnet50(num_classes=7)", Arch("torchvision", "resnet50", (), {"num_classes": 7})),
    ],
)
def test_an_architecture_is_read(text: str, arch: Arch) -> None:
    assert parse_arch(text) == arch


@pytest.mark.parametrize(
    "text",
    [
        "Net",
        "model.py",
        "model.py:",
        "model.py:a.b",
        "model.py:Net(x=open('f'))",
        "model.py:Net(**{})",
        "model.py:Net(",
        "model.py:1",
        "timm:vit",
    ],
)
def test_an_architecture_with_anything_but_plain_values_is_refused(text: str) -> None:
    with pytest.raises(ImportRefused) as caught:
        parse_arch(text)

    assert caught.value.code == "BAD_ARCHITECTURE"
    assert "model.py:Class" in caught.value.hint
