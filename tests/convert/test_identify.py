"""What is no ONNX model is named for what it is, without unpickling anything."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from towline.convert.files import copy_source
from towline.convert.identify import HEAD_BYTES, identify
from towline.core.errors import ImportRefused
from towline.testing import tiny_models


def zipped(**members: bytes) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return raw.getvalue()


def npz() -> bytes:
    raw = io.BytesIO()
    np.savez(raw, x=np.zeros(3))
    return raw.getvalue()


def tar() -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.onnx"), io.BytesIO())
    return raw.getvalue()


class Module:
    """Stands for a class that only its own code can load."""


def pickled(value: object) -> bytes:
    return pickle.dumps(value, protocol=2)


SAFETENSORS_HEADER = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, separators=(",", ":")).encode()
FILES = {
    "EMPTY_FILE": [b""],
    "ZERO_BYTES": [b"\0" * 100],
    "HTML_PAGE": [b"<!DOCTYPE html><html>", b"\xef\xbb\xbf\n <html lang=en>", b"<HTML>"],
    "LFS_POINTER": [b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"],
    "STATE_DICT": [
        zipped(**{"net/data.pkl": pickled(OrderedDict(w=1)), "net/version": b"3"}),
        zipped(**{"net/data.pkl": pickled({"state_dict": {}})}),
        b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M",
    ],
    "TORCH_PICKLE": [zipped(**{"net/data.pkl": pickled(Module())})],
    "TORCHSCRIPT_MODEL": [zipped(**{"net/data.pkl": b"x", "net/code/__torch__.py": b"x", "net/constants.pkl": b"x"})],
    "TORCH_EXPORT": [zipped(**{"net/archive_format": b"pt2", "net/models/model.json": b"{}"})],
    "KERAS_MODEL": [zipped(**{"metadata.json": b"{}", "config.json": b"{}", "model.weights.h5": b"x"})],
    "HDF5_FILE": [b"\x89HDF\r\n\x1a\n\0\0"],
    "TFLITE_MODEL": [b"\x1c\0\0\0TFL3\0\0"],
    "ORT_MODEL": [b"\x1c\0\0\0ORTM\0\0"],
    "SAFETENSORS_WEIGHTS": [len(SAFETENSORS_HEADER).to_bytes(8, "little") + SAFETENSORS_HEADER + b"\0" * 4],
    "GGUF_MODEL": [b"GGUF\x03\0\0\0"],
    "SAVED_MODEL": [b"\x08\x01\x12\x83\x80\x01\x0a"],
    "TENSORFLOW_GRAPH": [b"\x0a\x2f\x0a\x01x\x12\x0bPlaceholder\x2a"],
    "NUMPY_FILE": [npz(), b"\x93NUMPY\x01\0"],
    "PICKLE": [pickle.dumps({"a": 1}), pickled([1])],
    "SKLEARN_PICKLE": [b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x1asklearn.linear_model._ridge"],
    "COMPRESSED_PICKLE": [
        *(pack(pickle.dumps([1], protocol=2)) for pack in (zlib.compress, partial(gzip.compress, mtime=0), bz2.compress, lzma.compress)),
        lzma.compress(pickle.dumps({"a": 1}), format=lzma.FORMAT_ALONE),
    ],
    "LIGHTGBM_MODEL": [b"tree\nversion=v4\nnum_class=1\n", b"tree\r\nversion=v4\r\n"],
    "ARCHIVE": [gzip.compress(b"x", mtime=0), zipped(readme=b"x"), tar(), b"7z\xbc\xaf\x27\x1c\0\4", b"BZh91AY"],
    "JSON_TEXT": [b'{"a": 1}', b" [1, 2]", json.dumps({"é": "ü"}, ensure_ascii=False).encode()],
    "ONNX_TEXT": [b"ir_version: 8\ngraph {\n", b'<ir_version: 8, opset_import: ["" : 17]>'],
    "PLAIN_TEXT": [b"not a model\n", "模型".encode(), b"Access denied"],
    "XML_TEXT": [b'<?xml version="1.0"?><net name="x">'],
    "MEDIA_FILE": [b"\x89PNG\r\n\x1a\n", b"%PDF-1.7"],
    "PROGRAM": [b"\x7fELF\x02\x01", b"#!/bin/sh\n"],
}


@pytest.mark.parametrize(
    ("code", "raw"), [(code, raw) for code, files in FILES.items() for raw in files], ids=lambda value: str(value)[:24]
)
def test_a_file_that_is_no_model_is_named_for_what_it_is(code, raw):
    foreign = identify(raw[:HEAD_BYTES], len(raw))

    assert foreign is not None
    assert foreign.code == code
    assert foreign.hint


@pytest.mark.parametrize(
    "model", [tiny_models.mlp(), tiny_models.identity("string"), tiny_models.dynamic_int8(), tiny_models.slow()], ids=lambda _: ""
)
def test_an_onnx_model_is_taken_for_nothing_else(model):
    assert identify(model[:HEAD_BYTES], len(model)) is None


def test_a_long_text_cut_inside_a_character_is_still_text():
    raw = b"a" + "é".encode() * HEAD_BYTES

    assert identify(raw[:HEAD_BYTES], len(raw)).code == "PLAIN_TEXT"


def test_a_pickle_is_never_loaded(tmp_path: Path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (marker,))

    source = tmp_path / "model.pkl"
    source.write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ImportRefused, match=r"'model.pkl' is a Python pickle, which runs code when it is read"):
        copy_source(source, tmp_path)

    assert not marker.exists()


def test_random_bytes_are_no_onnx_model(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(50):
        staged = tmp_path / str(number)
        staged.mkdir()
        source = staged / "noise.onnx"
        source.write_bytes(rng.bytes(int(rng.integers(1, 2000))))
        with pytest.raises(ImportRefused) as refusal:
            copy_source(source, staged)
        assert refusal.value.message.startswith("'noise.onnx'")
