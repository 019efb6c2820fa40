"""Import a model: see what it is, copy and read it, have it converted where it is foreign, and hand it on to be tried and sealed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.app.home import actor as current_actor
from towline.app.home import opened_store
from towline.app.importing.given import Given, checked
from towline.app.importing.sealing import Candidate, ImportResult, Order, Progress, existing, seal
from towline.app.sources import is_handler
from towline.convert.files import copy_source
from towline.convert.onnx import Inspection, StartReader, start_here
from towline.core.errors import UsageError
from towline.core.refs import MODEL_NAME, check_model_name, clip
from towline.core.store import Store

if TYPE_CHECKING:
    from towline.app.importing.handler import HandlerSource
    from towline.app.importing.trying import StartWorker
    from towline.serve.workers.local import LocalWorker

MAX_NAME_CHARS = 128
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
# Ends of a file's name that say what it is, and are no part of a model's.
_SUFFIXES = (
    ".onnx",
    *(".pt", ".pth", ".pt2", ".bin", ".safetensors"),
    *(".weights.h5", ".keras", ".h5", ".pb", ".meta", ".index", ".tflite"),
    *(".pkl", ".joblib"),
)


def import_model(
    source: str | Path | object,
    *,
    name: str | None = None,
    labels: str | Path | None = None,
    sample: str | Path | object | None = None,
    processing: str | Path | None = None,
    preset: str = "",
    fuse: bool = False,
    include: Sequence[str | Path] = (),
    python: str | Path = "",
    arch: str = "",
    input: str = "",
    options: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    against: str | Path | None = None,
    trust_this_file: bool = False,
    data: str | Path | None = None,
    message: str = "",
    home: str | Path | None = None,
    progress: Progress | None = None,
) -> ImportResult:
    """Check and measure a model, and store it as the next version of `name` (default: made of the file's name).

    `labels` names the output's classes, one per line; `sample` holds inputs to try the model with (.npz, .npy, JSON, .csv, or a picture,
    sound or text where the version takes those; or a folder of such files); `processing` is a TOML file that declares what is done before
    and after the graph, `preset` names one that many models share; `fuse` writes those steps into the graph; `message` is the reason, for
    the record. The same file, labels, sample and processing under the same name are stored once.
    A user's own class is given as `handler.py:ClassName`, with the files and folders it needs as `include`, and the `python` of the
    environment it runs in where that is not ours.
    `source` and `against` may be URLs (app/fetching/fetch.py), which are fetched first.

    What is no ONNX file is converted by its own framework, in a process behind walls, and taken only when the version answers as the
    source does. `arch` is the code of weights (`model.py:Net`), `input` what it takes (`float32[N,3,224,224]`), `options` are more words
    for the importer; `tolerance` tightens how far an answer may lie off; `against` names what an ONNX file was converted from, to prove
    that too; on `data`, which is labelled (.npz, .csv, .jsonl), source and version are both measured; `trust_this_file` lets code that is
    in the source run, and converts also where no wall stands.
    A model of this very process is given as it is: a `torch.nn.Module`, a Keras model, a fitted estimator of scikit-learn or LightGBM, a
    Booster; `sample` may then be an array, a dict of arrays or a data frame. It is converted here, and left as it was.
    Raises UsageError for a path that is no readable file, ImportRefused for what may not be imported.
    """
    from towline.app.fetching.fetch import fetched
    from towline.serve.workers.local import LocalWorker

    words = {**(options or {}), **({"arch": arch} if arch else {}), **({"input": input} if input else {})}
    say = progress or _in_silence
    if not isinstance(source, str | Path):
        return _import_object(
            source,
            sample,
            name=name,
            labels=labels,
            processing=processing,
            preset=preset,
            include=include,
            fuse=fuse,
            options=words,
            tolerance=tolerance,
            data=data,
            message=message,
            home=home,
            say=say,
        )
    if sample is not None and not isinstance(sample, str | Path):
        raise UsageError(
            "A file is tried with a sample in a file.", field="sample", hint="Save the arrays: numpy.savez('sample.npz', x=…)."
        )
    with fetched(source, progress=say) as model, fetched(against or "", progress=say) as original:
        name = name or name_of(model)
        given: Given | HandlerSource
        if is_handler(str(source)):
            given = _handler(source, labels, sample, tuple(map(Path, include)), str(python))
        else:
            given = checked(
                model,
                labels,
                sample,
                processing,
                preset,
                include,
                fuse=fuse,
                options=words,
                tolerance=tolerance,
                against=original if against else None,
                trust=trust_this_file,
                data=data,
            )
        with opened_store(home) as store:
            order = Order(store, check_model_name(name), None, current_actor(), message, LocalWorker.start, say)
            result, worker = _import(order, given)
            if worker is not None:
                worker.close()
    return result


def _import_object(
    source: object, sample: object, *, name: str | None, message: str, home: str | Path | None, say: Progress, **more: Any
) -> ImportResult:
    from towline.app.importing.live import import_object, recognise_object
    from towline.serve.workers.local import LocalWorker

    found = recognise_object(source)
    of_file = sample if isinstance(sample, str | Path) else None
    given = checked(found.path, sample=of_file, foreign=found, **more)
    with opened_store(home) as store:
        order = Order(store, check_model_name(name or found.path.name), None, current_actor(), message, LocalWorker.start, say)
        result, worker = import_object(order, given, source, sample if of_file is None else None)
        if worker is not None:
            worker.close()
    return result


def import_into(
    store: Store,
    source: str | Path,
    *,
    name: str | None,
    actor: str,
    start_worker: StartWorker,
    start_reader: StartReader = start_here,
    number: int | None = None,
    labels: Path | None = None,
    sample: Path | None = None,
    processing: Path | None = None,
    preset: str = "",
    fuse: bool = False,
    include: tuple[Path, ...] = (),
    python: str = "",
    options: Mapping[str, str] | None = None,
    message: str = "",
    may_convert: bool = True,
    progress: Progress | None = None,
) -> tuple[ImportResult, LocalWorker | None]:
    """`import_model` into an open store, through processes that `start_worker` and `start_reader` make.

    With `may_convert` false only ONNX is taken. Also returns the worker that has loaded a new version: it is the caller's to close or to
    serve with. None when nothing was added.
    """
    given: Given | HandlerSource
    if is_handler(str(source)):
        given = _handler(source, labels or processing, sample, include, python)
        name = check_model_name(name or given.class_name)
    else:
        given = checked(source, labels, sample, processing, preset, include, fuse=fuse, options=options, may_convert=may_convert)
        name = check_model_name(name) if name is not None else name_from(given.model)
    return _import(Order(store, name, number, actor, message, start_worker, progress or _in_silence, start_reader), given)


def _import(order: Order, given: Given | HandlerSource) -> tuple[ImportResult, LocalWorker | None]:
    if not isinstance(given, Given):
        from towline.app.importing.handler import import_handler

        return import_handler(order, given)
    if given.foreign is not None or given.against is not None:
        from towline.app.importing.foreign import import_foreign

        return import_foreign(order, given)
    with order.store.stage() as staged:
        order.say(f"Reading {given.model.name}")
        copied = copy_source(given.model, staged)
        known = existing(order, given, copied.source_digest)
        if known is not None:
            return known, None
        with Inspection(copied.folder / copied.model_file, start=order.start_reader) as inspection:
            # While another process reads the model, this one loads what the next steps need.
            import importlib.metadata  # noqa: F401

            import towline.app.importing.trying
            import towline.convert.report
            import towline.convert.version
            import towline.verify.golden
            import towline.verify.smoke  # noqa: F401

            inspected = inspection.result()
        return seal(order, given, Candidate(copied, inspected))


def name_of(source: str | Path) -> str:
    """The name that a source has when none is given: its file's, or a handler's class's."""
    text = str(source)
    return text.rpartition(":")[2] if is_handler(text) else name_from(Path(source))


def _handler(
    source: str | Path, labels: str | Path | None, sample: str | Path | None, include: tuple[Path, ...], python: str
) -> HandlerSource:
    from towline.app.importing.handler import handler_given

    if labels is not None:
        raise UsageError("A handler names the classes of its answers itself.", code="USAGE", field="labels", hint="Leave --labels out.")
    return handler_given(str(source), include=include, sample=Path(sample) if sample else None, python=python)


def name_from(model: Path) -> str:
    """A model's name made of its file's, without .onnx and the like, and with `-` for what no name may hold.

    Raises UsageError when nothing is left.
    """
    if model.name.isdecimal():
        # A version's folder, as TensorFlow Serving numbers them: the model's name is that of the one above.
        model = model.absolute().parent
    stem = next((model.name[: -len(end)] for end in _SUFFIXES if model.name.lower().endswith(end)), model.stem)
    legal = re.sub(r"\.{2,}", ".", _NOT_IN_A_NAME.sub("-", stem)).lstrip("._-").rstrip("-")[:MAX_NAME_CHARS]
    if not MODEL_NAME.fullmatch(legal):
        raise UsageError(
            f"No model's name can be made of '{clip(model.name)}': names have letters, digits, '.', '_' and '-'.",
            code="BAD_NAME",
            field="name",
            hint="Give one: --name digits",
        )
    return legal


def _in_silence(sentence: str) -> None:
    """Nobody asked for progress."""
