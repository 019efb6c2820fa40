"""The import table of ARCHITECTURE.md: a room knows core and itself, and each library one room. Read from the source, run by nobody."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "towline"
ROOMS = {"store", "engines", "convert", "verify", "serve", "monitor", "optimize", "secure"}
# Which parts of towline each part may import, beside itself.
MAY_IMPORT = {
    "core": set(),
    **{room: {"core"} for room in ROOMS},
    "client": {"core"},
    "testing": {"core"},
    "app": {"core", "client"} | ROOMS,
    "cli": {"app", "core"},
}
# Every library outside the standard one, and the only places that may import it.
LIBRARIES = {
    "numpy": ("core", "app", "cli/predict.py", "client", "convert", "engines", "optimize", "serve", "testing", "verify"),
    "msgspec": ("core", "app", "cli/show.py", "convert", "engines/handlers", "optimize/passes.py", "serve", "testing"),
    "click": ("cli",),
    "onnx": ("convert", "optimize", "testing/pass_contract.py", "testing/tiny_models.py"),
    "google": (
        "verify/conformance/run.py",
        "convert/inspect.py",
        "convert/tensorflow",
        "convert/textproto.py",
        "serve/protocols/grpc",
    ),
    "grpc": ("verify/conformance/target.py", "serve/protocols/grpc", "verify/load/grpc.py"),
    "pygrpc_native": ("serve/protocols/grpc/native.py",),
    "onnxruntime": ("engines/onnxruntime.py", "optimize"),
    "ai_edge_litert": ("engines/litert.py", "convert/tflite"),
    "openvino": ("engines/openvino.py",),
    "tensorflow": ("engines/tensorflow.py", "convert/tensorflow", "convert/tflite/onnx_importer.py"),
    "keras": ("convert/tensorflow",),
    "h5py": ("convert/tensorflow/keras_file.py",),
    "tf2onnx": ("convert/tensorflow/onnx_route.py", "convert/tflite/onnx_importer.py"),
    "onnxslim": ("convert/tensorflow/onnx_route.py", "convert/torch/cleaning.py", "optimize/graph.py"),
    "orjson": ("serve",),
    "graphql": ("serve/protocols/graphql",),
    "torch": ("convert/torch", "engines/torch.py", "optimize/training"),
    "torch_pruning": ("optimize/training/pruning.py",),
    "optuna": ("optimize/search.py",),
    "torchvision": ("convert/torch/making.py",),
    "safetensors": ("convert/torch/checkpoint.py",),
    "PIL": ("engines/processing/image.py", "verify/pages/thumbnails.py", "verify/robustness.py"),
    "soxr": ("engines/processing/audio.py",),
    "tokenizers": ("engines/processing/text.py",),
    "httptools": ("serve/protocols",),
    "pyarrow": ("verify/data/tables.py", "verify/data/writing.py"),
    "simdjson": ("serve/codecs/numbers.py",),
    "python_multipart": ("serve/codecs/multipart.py",),
    "uvicorn": ("serve/http_server.py", "serve/protocols/answers.py"),
    "uvloop": ("app/serving/front.py",),
    # In the converter process, in an environment of its own.
    **dict.fromkeys(("sklearn", "skl2onnx", "onnxmltools", "lightgbm", "joblib", "pandas"), ("convert/tabular",)),
    "fsspec": ("app/fetching/remote.py",),
    "onnx2tf": ("convert/onnx2tf.py",),
}
UNSAFE = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# What is unpickled here is unpickled in the converter process, behind the walls of the sandbox, each name vetted before it is imported.
UNPICKLES = {"convert/tabular/load.py"}
MAX_LINES = 500


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted names a module imports, wherever in it; what only type checkers read is left out."""
    skipped = {id(inner) for node in ast.walk(tree) if _is_type_checking(node) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def faults(name: str, source: str) -> list[str]:
    """What is wrong with one file of the package; `name` is relative to it."""
    tree = ast.parse(source)
    part = name.split("/")[0] if "/" in name else "root"
    found = []
    for imported in set(imports(tree)):
        top, *rest = imported.split(".")
        if top == "towline" and part != "root" and rest and rest[0] in MAY_IMPORT and rest[0] != part:
            if rest[0] not in MAY_IMPORT[part]:
                found.append(f"{name} imports towline.{rest[0]}, which {part} may not")
        elif top in UNSAFE and name not in UNPICKLES:
            found.append(f"{name} imports {top}: nothing here unpickles")
        elif top not in sys.stdlib_module_names and top != "towline":
            places = LIBRARIES.get(top, ())
            if not any(name == place or name.startswith(f"{place}/") for place in places):
                found.append(f"{name} imports {top}, which belongs in {', '.join(places) or 'no file'}")
    return [*found, *_unsafe_calls(name, tree), *_length(name, source)]


def _unsafe_calls(name: str, tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if any(word.arg == "allow_pickle" and getattr(word.value, "value", True) is not False for word in node.keywords):
                yield f"{name} line {node.lineno} allows pickle"
            if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                yield f"{name} line {node.lineno} calls {node.func.id}"


def _length(name: str, source: str) -> Iterator[str]:
    lines = source.count("\n")
    if lines > MAX_LINES:
        yield f"{name} has {lines} lines: it is two files"


def files() -> list[str]:
    return sorted(path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.py"))


@pytest.mark.parametrize("name", files())
def test_a_file_imports_only_what_its_room_may(name: str) -> None:
    assert faults(name, (SOURCE / name).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("serve/slots.py", "from towline.store.sqlite import open_store", "imports towline.store"),
        ("serve/slots.py", "def f():\n    import towline.engines.host", "imports towline.engines"),
        ("core/version.py", "from towline.app import load", "imports towline.app"),
        ("core/version.py", "import orjson", "imports orjson, which belongs in serve"),
        ("cli/ls.py", "from towline.store import sqlite", "imports towline.store"),
        ("client/http.py", "import requests", "belongs in no file"),
        ("serve/front.py", "import jax", "belongs in no file"),
        ("convert/labels.py", "import pickle", "nothing here unpickles"),
        ("verify/samples.py", "import numpy as np\nnp.load(x, allow_pickle=True)", "allows pickle"),
        ("monitor/metrics.py", "import prometheus_client", "belongs in no file"),
        ("app/predicting/load.py", "eval('1')", "calls eval"),
        ("app/predicting/load.py", "\n" * (MAX_LINES + 1), "it is two files"),
    ],
)
def test_the_table_is_held_to(name: str, source: str, fault: str) -> None:
    assert any(fault in found for found in faults(name, source)), faults(name, source)


def test_what_only_a_type_checker_reads_is_no_import() -> None:
    source = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from towline.serve.front import Front\n"

    assert faults("core/version.py", source) == []


def test_every_room_is_in_the_table() -> None:
    assert {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()} == set(MAY_IMPORT)


# The standard parser keeps the last of two equal keys, takes NaN and recurses without bound: on the path of a request it is
# used only where those are dealt with.
@pytest.mark.parametrize(
    "name", [name for name in files() if name.startswith(("serve/protocols", "serve/codecs")) and name != "serve/codecs/exact.py"]
)
def test_request_bodies_are_not_read_by_the_standard_parser(name: str) -> None:
    assert "json" not in {imported.split(".")[0] for imported in imports(ast.parse((SOURCE / name).read_text(encoding="utf-8")))}
