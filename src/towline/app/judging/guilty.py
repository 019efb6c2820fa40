"""Name the layers that make an optimised version answer otherwise than the version it came from, and the command that would help."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from towline.app.judging.judge import Options
from towline.app.optimizing.candidates import calibration
from towline.convert.made import ONNX_ENGINE
from towline.convert.probing import with_outputs
from towline.core.errors import DeadlineExceeded, EngineError, ImportRefused, NotFound, VersionError, WorkerDied
from towline.core.manifest import DEFAULT_SIGNATURE, Signature
from towline.core.refs import parse_ref
from towline.core.store import Store
from towline.core.version import Version
from towline.verify.data.dataset import DataSet
from towline.verify.gates import Verdict
from towline.verify.layers import GuiltyLayer, Layer, Noise, guilty_layers
from towline.verify.metrics.named import Metric

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

Arrays = Mapping[str, np.ndarray]

# All inner tensors of a row are held at once, of both.
_ROWS = 8
_MOST_BYTES = 1 << 30
_MOST_GENERATIONS = 32
# Nothing is said of a graph that cannot be looked into; the comparison stands as it is.
_NO_ANSWER = (EngineError, VersionError, WorkerDied, DeadlineExceeded, ImportRefused)
# The limits of `towline optimize` that gates of a comparison ask for.
_LIMITS = {
    "drop": ("--max-drop", 100.0, "pt"),
    "drop_sure": ("--max-drop", 100.0, "pt"),
    "agreement": ("--min-agreement", 100.0, "%"),
    "p99_ms": ("--max-p99", 1.0, ""),
    "size_mb": ("--max-size", 1.0, ""),
}


def came_from(store: Store, second: Version, first: Version) -> bool:
    """Whether `first` is among the versions that `second` was made of. A line that a removed version broke ends there."""
    parents = list(second.manifest.parents)
    for _ in range(_MOST_GENERATIONS):
        if first.digest in parents or not parents:
            return first.digest in parents
        try:
            parents = list(store.version(parse_ref(parents[0])).manifest.parents)
        except NotFound:
            return False
    return False


def look_for_guilty(first: Version, second: Version, data: DataSet) -> tuple[GuiltyLayer, ...]:
    """The layers of `second` behind which its tensors lie the furthest from those of `first`, on the first rows; none where that is
    unknown. Both are ONNX graphs, and tensors of one name are taken for the same."""
    manifests = [version.manifest for version in (first, second)]
    if any(one.engine != ONNX_ENGINE or one.handler is not None for one in manifests) or first.size_bytes + second.size_bytes > _MOST_BYTES:
        return ()
    try:
        with tempfile.TemporaryDirectory(prefix="towline-layers-") as scratch:
            return _looked_into(first, second, _single_rows(first, data), Path(scratch))
    except _NO_ANSWER:
        return ()


def remedy(first: Version, data: str | Path, options: Options, verdicts: Sequence[Verdict], metric: Metric | None = None) -> str:
    """The command that looks for a version of `first` which keeps what the gates ask for. Pure."""
    words = ["towline", "optimize", str(first), "--data", str(data)]
    limits: dict[str, str] = {}
    for one in verdicts:
        if one.gate.figure in _LIMITS and one.gate.compare != "==":
            name, scale, unit = _LIMITS[one.gate.figure]
            if name == "--max-drop" and metric is not None and not metric.is_share:
                scale, unit = 1.0, ""
            limits.setdefault(name, f"{scale * one.gate.limit:g}{unit}")
    for name, value in limits.items():
        words += [name, value]
    for name, value in (
        ("--metric", options.metric),
        ("--label", options.label),
        ("--output", options.output),
        ("--limit", str(options.limit or "")),
    ):
        words += [name, value] if value else []
    return shlex.join(words)


def _single_rows(version: Version, data: DataSet) -> list[Arrays]:
    """The first rows one by one, as the bare graph is given them."""
    batches = calibration(version, data.first(_ROWS), _ROWS)
    rows: list[Arrays] = []
    for one in batches:
        rows += [{name: array[row : row + 1] for name, array in one.items()} for row in range(len(next(iter(one.values()))))]
    return rows[:_ROWS]


def _looked_into(first: Version, second: Version, rows: Sequence[Arrays], scratch: Path) -> tuple[GuiltyLayer, ...]:
    noise = Noise()
    with _opened(first, scratch / "first") as (one, _), _opened(second, scratch / "second") as (other, layers):
        for row in rows:
            noise.add(one.run(row), other.run(row))
    return guilty_layers(layers, noise.ratios())


@contextmanager
def _opened(version: Version, copy: Path) -> Iterator[tuple[LocalWorker, list[Layer]]]:
    """A worker that answers with all inner floats of the bare graph, and the graph's operators."""
    from towline.serve.workers.local import LocalWorker

    shutil.copytree(version.path, copy)
    manifest = version.manifest
    bare = manifest.bare() if manifest.processing else manifest
    model = copy / bare.model_file
    probe = with_outputs(model, (), model.with_name("probe.onnx"))
    own = bare.signature
    probing = msgspec.structs.replace(
        bare,
        model_file=str(model.with_name("probe.onnx").relative_to(copy)),
        model_files={},
        golden=(),
        signatures={DEFAULT_SIGNATURE: Signature(own.inputs, (*own.outputs, *probe.tensors))},
    )
    with LocalWorker.start(copy, probing) as worker:
        yield worker, [Layer(node.name, node.kind, node.inputs, node.output) for node in probe.nodes]
