"""Write what import found into a staged folder, in bytes that are the same whenever the findings are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from towline.convert import wording
from towline.convert.declaration import MAX_FILE_BYTES, refused
from towline.convert.feature_defaults import held_defaults
from towline.convert.files import Copied
from towline.convert.inspected import Inspected
from towline.convert.labels import encode_labels
from towline.convert.made import Made
from towline.convert.processing import Prepared
from towline.core.cpu import cpu_kind
from towline.core.errors import ImportRefused
from towline.core.frames import encode_frame
from towline.core.manifest import (
    TENSORS_SIGNATURE,
    Bound,
    Facts,
    Golden,
    Manifest,
    Measured,
    Origin,
    Padding,
    Processing,
    Signature,
    encode_manifest,
)
from towline.core.plain_file import read_plain_file

MANIFEST_NAME = "manifest.json"
LABELS_NAME = "labels.txt"
GOLDEN_FOLDER = "golden"
SOURCE_FOLDER = "source"


class Findings(Protocol):
    """What the smoke test (verify/smoke.py) hands over."""

    @property
    def signature(self) -> Signature: ...
    @property
    def batchable(self) -> bool: ...
    @property
    def unbatchable_because(self) -> str: ...
    @property
    def measured(self) -> Measured: ...
    @property
    def padding(self) -> tuple[Padding, ...]: ...
    @property
    def unpadded_because(self) -> Mapping[str, str]: ...


RecordedGolden = tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray], Mapping[str, Bound]]


def draft_manifest(
    copied: Copied, inspected: Inspected, prepared: Prepared | None = None, *, has_labels: bool = False, made: Made | None = None
) -> Manifest:
    """A manifest good enough to load the staged model for its smoke test: not batchable, nothing measured, no golden requests."""
    return _manifest(
        copied,
        inspected,
        made or Made(),
        signature=prepared.outer if prepared else inspected.signature,
        prepared=prepared,
        labels=LABELS_NAME if has_labels else None,
        batchable=False,
        unbatchable_because="not tested yet",
        measured=Measured(cpu=cpu_kind(), deterministic=False, memory_loaded_bytes=0, memory_peak_bytes=0, max_batch=1),
        tools={},
    )


def build_version(
    copied: Copied,
    inspected: Inspected,
    smoked: Findings,
    goldens: Sequence[RecordedGolden],
    *,
    prepared: Prepared | None = None,
    labels: tuple[str, ...] | None = None,
    tools: Mapping[str, str] | None = None,
    training: Mapping[str, str | int | float | bool] | None = None,
    packages: Sequence[str] | None = None,
    made: Made | None = None,
    source_answers: Sequence[RecordedGolden] = (),
) -> Manifest:
    """Complete the staged folder `copied.folder`: golden frames and, last, manifest.json. Nothing else may be added after.

    `labels` are those that `write_labels` wrote.
    `goldens` are (request, response, bounds) as verify/golden.py records them; `tools` are names and versions of what took part,
    such as the engine; `source_answers` are what the framework that it was converted from answers.
    No time, user or host gets in: the same findings give the same digest.
    """
    manifest = _manifest(
        copied,
        inspected,
        made or Made(),
        signature=smoked.signature,
        prepared=prepared,
        batchable=smoked.batchable,
        unbatchable_because=smoked.unbatchable_because,
        measured=smoked.measured,
        golden=write_golden(copied.folder, goldens),
        labels=LABELS_NAME if labels is not None else None,
        tools=dict(tools or {}),
        training=dict(training) if training is not None else None,
        packages=tuple(packages) if packages is not None else None,
        source_answers=write_golden(copied.folder, source_answers, under=SOURCE_FOLDER),
        padding=smoked.padding,
        unpadded_because=smoked.unpadded_because,
    )
    write_new(copied.folder / MANIFEST_NAME, encode_manifest(manifest))
    return manifest


def _manifest(
    copied: Copied,
    inspected: Inspected,
    made: Made,
    *,
    signature: Signature,
    prepared: Prepared | None,
    batchable: bool,
    unbatchable_because: str,
    measured: Measured,
    tools: dict[str, str],
    golden: tuple[Golden, ...] = (),
    labels: str | None = None,
    training: dict[str, str | int | float | bool] | None = None,
    packages: tuple[str, ...] | None = None,
    source_answers: tuple[Golden, ...] = (),
    padding: tuple[Padding, ...] = (),
    unpadded_because: Mapping[str, str] | None = None,
) -> Manifest:
    read = {"onnx": inspected.onnx_version} if inspected.onnx_version else {}
    return Manifest(
        format=1,
        engine=made.engine,
        model_file=copied.model_file,
        signatures={**made.signatures, made.default: signature, **({TENSORS_SIGNATURE: inspected.signature} if prepared else {})},
        batchable=batchable,
        origin=Origin(
            format=made.format or f"onnx ir {inspected.ir_version}",
            source_digest=made.source_digest or copied.source_digest,
            tools={**read, **({"producer": inspected.producer} if inspected.producer else {}), **made.tools, **tools},
            training=training,
            packages=packages,
        ),
        facts=Facts(parameters=inspected.parameters, operators=inspected.operators, opset=inspected.opset),
        measured=measured,
        golden=golden,
        labels=labels,
        processing=prepared.processing if prepared else Processing(),
        parents=made.parents,
        environment=made.environment,
        model_files=dict(made.model_files),
        source_answers=source_answers,
        unbatchable_because=unbatchable_because,
        padding=padding,
        unpadded_because=dict(unpadded_because or {}),
        feature_defaults=held_defaults(made.feature_defaults, made.signatures) or msgspec.UNSET,
    )


def write_labels(folder: Path, labels: tuple[str, ...], signature: Signature) -> None:
    """Put the labels into a staged folder. Raises ImportRefused when they are not as many as the graph has classes."""
    _check_labels(labels, signature)
    write_new(folder / LABELS_NAME, encode_labels(labels))


def write_files(folder: Path, prepared: Prepared) -> None:
    """Copy the files that processing names into a staged folder, as fresh plain files."""
    for name, source in prepared.files:
        content = read_plain_file(source, MAX_FILE_BYTES, lambda what, path=source: refused(f"{path.name}: {what}"))  # type: ignore[misc]
        (folder / name).parent.mkdir(mode=0o755, exist_ok=True)
        write_new(folder / name, content)


def _check_labels(labels: tuple[str, ...], signature: Signature) -> None:
    """Of a plain classifier, one output [N, classes], the number of labels is known. Of other models it is not."""
    shape = signature.outputs[0].shape if len(signature.outputs) == 1 else None
    if shape is None or len(shape) != 2 or not isinstance(shape[1], int) or shape[1] in (1, len(labels)):
        return
    raise ImportRefused(
        f"The file of labels has {len(labels)}, but output {wording.name(signature.outputs[0].name)} has {shape[1]} classes.",
        code="BAD_LABELS",
        field="labels",
        hint="Give one label per class, in the order of the output.",
    )


def write_golden(folder: Path, goldens: Sequence[RecordedGolden], *, under: str = GOLDEN_FOLDER) -> tuple[Golden, ...]:
    written = []
    if goldens:
        (folder / under).mkdir(mode=0o755)
    for number, (request, response, bounds) in enumerate(goldens):
        names = f"{under}/{number}-request.bin", f"{under}/{number}-response.bin"
        for name, tensors in zip(names, (request, response), strict=True):
            write_new(folder / name, encode_frame(dict(tensors)))
        written.append(Golden(*names, {name: bounds[name] for name in sorted(bounds)}))
    return tuple(written)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that did not exist before."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644), "wb") as file:
        file.write(content)
