"""The published schema of manifest.json is the one the code lives by."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import jsonschema
import pytest

from towline.core.manifest import Bound, Facts, Golden, Manifest, Measured, Origin, Signature, TensorSpec, encode_manifest

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs" / "reference" / "manifest.schema.json"


def generated() -> str:
    spec = importlib.util.spec_from_file_location("manifest_schema", ROOT / "scripts" / "manifest_schema.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.manifest_schema()


def manifest() -> Manifest:
    return Manifest(
        format=1,
        engine="onnxruntime",
        model_file="model/model.onnx",
        signatures={"serving_default": Signature((TensorSpec("x", "float32", ("N", 3)),), (TensorSpec("y", "string", None),))},
        batchable=True,
        origin=Origin(format="onnx ir 8", source_digest="sha256:00", tools={"onnx": "1.18"}),
        facts=Facts(parameters=1, operators={"Relu": 1}, opset={"ai.onnx": 17}),
        measured=Measured(cpu="x", deterministic=True, memory_loaded_bytes=1, memory_peak_bytes=2, max_batch=3),
        golden=(Golden("golden/0-request.bin", "golden/0-response.bin", {"y": Bound(0.5, 0.25)}),),
    )


def test_the_published_schema_is_in_step():
    assert SCHEMA.read_text(encoding="utf-8") == generated(), "run: python scripts/manifest_schema.py"


def test_what_we_write_fits_the_schema():
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(json.loads(encode_manifest(manifest())))


@pytest.mark.parametrize(
    "change", [{"surprise": 1}, {"format": 2}, {"batchable": "yes"}, {"model_file": None}, {"signatures": {"a": {"inputs": []}}}]
)
def test_what_we_would_refuse_does_not_fit(change):
    wrong = {**json.loads(encode_manifest(manifest())), **change}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(wrong)
