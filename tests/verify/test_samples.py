"""A user's sample: three formats, no pickle, held to the signature."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest

from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec
from towline.verify.samples import load_sample

ONE = Signature((TensorSpec("x", "float32", ("N", 2)),), ())
TWO = Signature((TensorSpec("a", "int32", ("N",)), TensorSpec("b", "string", ("N",))), ())
ROWS = [[1.0, 2.0], [3.0, 4.0]]


def npy(array: np.ndarray, **options) -> bytes:
    raw = io.BytesIO()
    np.save(raw, array, **options)
    return raw.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    raw = io.BytesIO()
    np.savez_compressed(raw, **arrays)
    return raw.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        npz(x=np.array(ROWS)),
        npz(anything=np.float32(ROWS)),
        npy(np.array(ROWS)),
        npy(np.asfortranarray(ROWS)),
        npy(np.array(ROWS, ">f4")),
        npy(np.array(ROWS, int)),
        json.dumps({"inputs": {"x": ROWS}}).encode(),
        json.dumps({"x": ROWS}).encode(),
        json.dumps({"input": ROWS}).encode(),
        json.dumps({"instances": ROWS}).encode(),
        json.dumps(ROWS).encode(),
    ],
)
def test_the_same_rows_come_out_of_every_format(tmp_path, content):
    path = tmp_path / "sample"
    path.write_bytes(content)

    sample = load_sample(path, ONE)

    assert sample["x"].dtype == np.dtype("<f4")
    assert sample["x"].tolist() == ROWS
    assert sample["x"].flags.c_contiguous


def test_several_inputs_come_by_name_and_strings_become_bytes(tmp_path):
    path = tmp_path / "sample.json"
    path.write_text(json.dumps({"a": [1, 2], "b": ["é", "b"]}))

    sample = load_sample(path, TWO)

    assert sample["a"].dtype == np.int32
    assert sample["b"].tolist() == ["é".encode(), b"b"]


@pytest.mark.parametrize(
    ("content", "signature", "words"),
    [
        (json.dumps(ROWS).encode(), TWO, "it holds one array, but the model has the inputs 'a', 'b'"),
        (b'{"a": [1]}', TWO, "it lacks input 'b'"),
        (b'{"a": [1], "b": ["x"], "c": [1]}', TWO, "it holds 'c', which is no input"),
        (b'{"a": [1, 2], "b": ["x"]}', TWO, "'N' is 2 in one input and 1 in 'b'"),
        (b'{"a": [1], "b": [1]}', TWO, "input 'b' holds int, expected strings"),
        (b'{"a": [1.5], "b": ["x"]}', TWO, "input 'a' holds float64, expected int32"),
        (b'{"a": [2147483648], "b": ["x"]}', TWO, "beyond the range of int32"),
        (b'{"a": [true], "b": ["x"]}', TWO, "input 'a' holds bool, expected int32"),
        (b"[[1], [2, 3]]", ONE, "rows of unlike length"),
        (b"[[1, 2, 3]]", ONE, "input 'x' has shape [1, 3], expected [N, 2]"),
        (b"[1, 2]", ONE, "input 'x' has shape [2], expected [N, 2]"),
        (b"[]", ONE, "input 'x' has shape [0], expected [N, 2]"),
        (npy(np.zeros((0, 2))), ONE, "input 'x' has no rows"),
        (b"[[NaN, 1]]", ONE, "neither .npz, .npy nor JSON"),
        (b"[" * 100_000, ONE, "neither .npz, .npy nor JSON"),
        (b"hello", ONE, "neither .npz, .npy nor JSON"),
        (npy(np.array(ROWS))[:-1], ONE, "torn .npy"),
        (npy(np.array(ROWS))[:20], ONE, "damaged .npy"),
        (npz(x=np.array(ROWS))[:-30], ONE, "damaged .npz"),
        (npy(np.array(["1970-01-01"], "M8[D]")), ONE, "input 'x' holds datetime64[D], expected float32"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, content, signature, words):
    path = tmp_path / "sample"
    path.write_bytes(content)
    with pytest.raises(ImportRefused) as refusal:
        load_sample(path, signature)

    assert refusal.value.code == "BAD_SAMPLE"
    assert words in refusal.value.message


def test_a_pickle_inside_an_array_is_never_loaded(tmp_path):
    marker = tmp_path / "ran"

    class Attack:
        def __reduce__(self):
            return (os.mkdir, (str(marker),))

    attack = np.array([Attack()], object)
    for name, content in (("a.npy", npy(attack)), ("b.npz", npz(x=attack))):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImportRefused, match="would need pickle"):
            load_sample(tmp_path / name, ONE)
    (tmp_path / "c").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ImportRefused):
        load_sample(tmp_path / "c", ONE)

    assert not marker.exists()


@pytest.mark.parametrize("shape", ["(999999999999,)", "(2**62, 2**62)", "(-1, 2)", "(9**9**9,)", "[[[[[", "(1e12,)", "'x'", "((1, 2),)"])
def test_a_header_that_claims_what_is_not_there_allocates_nothing(tmp_path, shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    path = tmp_path / "bomb.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 8)
    with pytest.raises(ImportRefused) as refusal:
        load_sample(path, ONE)

    assert "damaged .npy" in refusal.value.message or "torn .npy" in refusal.value.message


def test_an_archive_that_unpacks_beyond_the_limit_is_refused(tmp_path):
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x.npy", "w", force_zip64=True) as member:
        for _ in range(257):
            member.write(b"\0" * (1 << 20))

    with pytest.raises(ImportRefused, match="unpacks to more than"):
        load_sample(path, ONE)


def test_what_is_no_plain_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, words in ((tmp_path / "pipe", "no plain file"), (tmp_path, "no plain file"), (tmp_path / "absent", "No such file")):
        with pytest.raises(ImportRefused, match=words):
            load_sample(path, ONE)
