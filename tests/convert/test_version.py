"""What import writes: the same findings give the same bytes, and golden frames come back as they were."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from towline.convert.files import Copied, copy_source
from towline.convert.inspected import Inspected
from towline.convert.report import bytes_for_people, import_report
from towline.convert.version import build_version, draft_manifest, write_labels
from towline.core.digest import folder_digest, folder_files, folder_size_bytes
from towline.core.errors import ImportRefused
from towline.core.frames import decode_frame
from towline.core.manifest import Bound, Measured, Signature, TensorSpec, decode_manifest
from towline.testing import tiny_models

SIGNATURE = Signature((TensorSpec("x", "float32", ("N", 10)),), (TensorSpec("y", "float32", ("N", 10)),))
INSPECTED = Inspected(
    signature=SIGNATURE,
    unnamed=(),
    parameters=1354,
    operators={"Gemm": 2, "Relu": 1},
    opset={"ai.onnx": 17},
    ir_version=8,
    producer="towline-tiny",
    functions=0,
    onnx_version="1.18.0",
    warnings=("Odd shapes.",),
)
SMOKED = SimpleNamespace(
    signature=SIGNATURE,
    batchable=True,
    unbatchable_because="",
    measured=Measured(cpu="x", deterministic=True, memory_loaded_bytes=16 << 20, memory_peak_bytes=32 << 20, max_batch=256),
    padding=(),
    unpadded_because={},
)
GOLDENS = [({"x": np.ones((1, 10), np.float32)}, {"y": np.zeros((1, 10), np.float32)}, {"y": Bound(2.0**-16, 2.0**-16)})]


def staged(folder: Path) -> Copied:
    (folder / "staged").mkdir(parents=True)
    return copy_source(tiny_models.write(folder, tiny_models.mlp()), folder / "staged")


def test_the_same_findings_give_the_same_digest_anywhere(tmp_path):
    digests = set()
    for name in ("here", "there"):
        copied = staged(tmp_path / name)
        build_version(copied, INSPECTED, SMOKED, GOLDENS, tools={"onnxruntime": "1.22"})
        digests.add(folder_digest(copied.folder))

    assert len(digests) == 1


def test_a_version_holds_model_golden_labels_and_manifest_and_nothing_else(tmp_path):
    copied = staged(tmp_path)
    digits = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    write_labels(copied.folder, digits, SIGNATURE)

    manifest = build_version(copied, INSPECTED, SMOKED, GOLDENS, labels=digits)

    files = ["golden/0-request.bin", "golden/0-response.bin", "labels.txt", "manifest.json", "model/model.onnx"]
    assert folder_files(copied.folder) == files
    assert decode_manifest((copied.folder / "manifest.json").read_bytes()) == manifest
    assert (copied.folder / "labels.txt").read_text().split() == list(digits)
    assert manifest.origin.source_digest == copied.source_digest
    golden = manifest.golden[0]
    assert golden.bounds == GOLDENS[0][2]
    for name, expected in ((golden.request, GOLDENS[0][0]), (golden.response, GOLDENS[0][1])):
        frame = decode_frame((copied.folder / name).read_bytes())
        assert {key: array.tolist() for key, array in frame.items()} == {key: array.tolist() for key, array in expected.items()}


def test_a_draft_is_enough_to_load_but_promises_nothing(tmp_path):
    draft = draft_manifest(staged(tmp_path), INSPECTED)

    assert draft.signature == SIGNATURE
    assert draft.model_file == "model/model.onnx"
    assert not draft.batchable
    assert draft.golden == ()


def test_the_wrong_number_of_labels_for_a_classifier_is_refused(tmp_path):
    with pytest.raises(ImportRefused, match="The file of labels has 2, but output 'y' has 10 classes"):
        write_labels(staged(tmp_path).folder, ("cat", "dog"), SIGNATURE)


def test_the_report_tells_people_what_was_found(tmp_path):
    copied = staged(tmp_path)
    manifest = build_version(copied, INSPECTED, SMOKED, GOLDENS)
    report = import_report("sha256:ab", folder_size_bytes(copied.folder), manifest, INSPECTED, ("Gives NaN.",))

    lines = report.lines()
    assert lines[0] == "digest     sha256:ab"
    assert "operators  3: 2 Gemm, 1 Relu" in lines
    assert "input      x  float32 [N, 10]" in lines
    assert "batching   each row is answered for itself: proven" in lines
    assert "memory     16 MiB loaded, 32 MiB at a batch of 256" in lines
    assert lines[-2:] == ["note: Odd shapes.", "note: Gives NaN."]
    assert report.as_json()["max_batch"] == 256


def test_sizes_are_told_in_units_people_use():
    assert [bytes_for_people(size) for size in (0, 900, 1536, 20 << 10, 300 << 20, 5 << 30)] == [
        "0 B",
        "900 B",
        "1.5 KiB",
        "20 KiB",
        "300 MiB",
        "5.0 GiB",
    ]
