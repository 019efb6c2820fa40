"""A file with arrays is read, and refused, in one way: as a sample of an import, as an input to predict, from stdin."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from towline.app.importing.given import checked
from towline.app.predicting.inputs import read_inputs
from towline.core.errors import ImportRefused, UsageError
from towline.core.manifest import Signature, TensorSpec
from towline.verify.samples import load_sample

ROWS = [[1.0, 2.0]]
TAKES = Signature((TensorSpec("x", "float32", ("N", 2)),), ())


def npz(**arrays: np.ndarray) -> bytes:
    raw = io.BytesIO()
    np.savez(raw, **arrays)
    return raw.getvalue()


@pytest.mark.parametrize("raw", [npz(x=np.array(ROWS)), b'{"inputs": {"x": [[1, 2]]}}', b'{"instances": [[1, 2]]}', b"[[1, 2]]"])
@pytest.mark.parametrize("is_piped", [True, False], ids=["stdin", "file"])
def test_the_same_file_is_a_sample_and_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, is_piped: bool) -> None:
    path = tmp_path / "given"
    path.write_bytes(raw)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(raw)))
    given = read_inputs("-" if is_piped else str(path))

    assert np.asarray(given["x"] if isinstance(given, dict) else given).tolist() == ROWS
    assert load_sample(path, TAKES)["x"].tolist() == ROWS


@pytest.mark.parametrize("raw", [npz(x=np.array(ROWS))[:-20], b"\x93NUMPY\x01\x00", b"[[NaN, 1]]", b"null", b"true", b"hello"])
def test_what_is_no_array_is_refused_for_the_same_reason_with_the_same_code(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "given"
    path.write_bytes(raw)
    with pytest.raises(ImportRefused) as sample:
        load_sample(path, TAKES)
    with pytest.raises(UsageError) as asked:
        read_inputs(str(path))

    assert asked.value.message.partition(": ")[2] == sample.value.message.partition(": ")[2]
    assert (asked.value.code, asked.value.hint) == (sample.value.code, sample.value.hint)


def test_what_a_model_takes_is_read_before_any_framework_is_started(tmp_path: Path) -> None:
    source = tmp_path / "net.safetensors"
    source.write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(UsageError) as refusal:
        checked(source, options={"input": "float32[N,3"})

    assert (refusal.value.code, refusal.value.field) == ("BAD_INPUT_SPEC", "input")
