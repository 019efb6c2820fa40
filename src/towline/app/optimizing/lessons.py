"""What passes that train learn from: rows with labels, rows without, and what a teacher answers to both, as the graph is given them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from towline.app.fetching.fetch import fetched
from towline.app.judging.judge import Options, Say, labels_of, loaded, opened_data, rows_per_run
from towline.app.optimizing.candidates import reader
from towline.app.predicting.predict import is_url, predict
from towline.convert.onnx import inspect_model
from towline.core.errors import ImportRefused, UsageError
from towline.core.manifest import TENSORS_SIGNATURE, Manifest
from towline.core.refs import parse_ref
from towline.core.store import Store
from towline.core.version import Version
from towline.optimize.base import Arrays, Pass
from towline.optimize.distill import given_student
from towline.optimize.rows import UNKNOWN, write_rows
from towline.optimize.training.settings import Training
from towline.verify.accuracy import reading_of
from towline.verify.data.dataset import Batch, DataSet

# Of the labelled rows a tenth, and no more than this, tells when training has gone far enough.
MAX_HELD_BACK = 2000

Ask = Callable[[Arrays], Arrays]


@dataclass(frozen=True)
class Lessons:
    """`train` is data with labels, `unlabelled` data without: one of both. `teacher` is a stored version or the address of a served one;
    the version itself where none is named. `student` is an ONNX file to be taught, whose inputs and outputs are the version's."""

    train: str = ""
    unlabelled: str = ""
    teacher: str = ""
    student: str = ""

    def __bool__(self) -> bool:
        return bool(self.train or self.unlabelled)


def write_lessons(store: Store, version: Version, lessons: Lessons, options: Options, folder: Path, say: Say) -> tuple[Path, str]:
    """The rows in the new folder (optimize/rows.py), those with labels last, and the words that tell them from others.

    Raises UsageError for data or a teacher that does not fit.
    """
    with ExitStack() as held:
        manifest, sets = version.manifest, _sets(version, lessons, options, held)
        output = reading_of(manifest.signature, sets[-1], options.output).output
        read, answers = held.enter_context(reader(version)), held.enter_context(_teacher(store, version, lessons.teacher, output))
        teacher, count = lessons.teacher or str(version), sum(data.rows for data in sets)
        say(f"Reading {count:,} rows to train on, and what {teacher} answers to them")
        rows = write_rows(
            folder,
            _batches(sets, rows_per_run(manifest), read, answers, graph_output(manifest, output)),
            count=count,
            output=graph_output(manifest, output),
            held_back=min(sets[-1].rows // 10, MAX_HELD_BACK),
            order=_order([data.rows for data in sets], options.seed),
        )
        return rows, " ".join([*(data.digest for data in sets), teacher])


def taught_student(file: str, training: Training) -> Pass:
    """The pass that teaches the ONNX file that its owner gave. Raises UsageError for one that no import would take."""
    path = Path(file).resolve()
    try:
        inspect_model(path)
    except ImportRefused as refusal:
        what = f"The student {file} cannot be taught: {refusal.message}"
        raise UsageError(what, code=refusal.code, field="student", hint="Give an .onnx file: --student FILE.") from refusal
    return given_student(path, training)


def _sets(version: Version, lessons: Lessons, options: Options, held: ExitStack) -> list[DataSet]:
    """The data without labels, and that with: one of both at least."""
    manifest, known = version.manifest, labels_of(version, version.manifest)
    # A limit is on the rows that judge.
    options = replace(options, limit=0)
    sets = []
    if lessons.unlabelled:
        sets.append(replace(opened_data(held.enter_context(fetched(lessons.unlabelled)), manifest, known, options), truth=None))
    if lessons.train:
        sets.append(opened_data(held.enter_context(fetched(lessons.train)), manifest, known, options))
        if sets[-1].truth is None:
            hint = "Name their column: --label NAME. Rows that nobody has labelled: --unlabelled PATH."
            raise UsageError("The data to train on has no labels.", code="BAD_DATA", field="train", hint=hint)
    return sets


def _batches(
    sets: Sequence[DataSet], size: int, read: Ask, answers: Ask, output: str
) -> Iterator[tuple[Arrays, np.ndarray | None, Arrays]]:
    known = sets[-1].truth
    for data in sets:
        for batch in data.batches(size):
            truth = None if known is None else _truth(batch, known)
            yield read(batch.inputs), truth, {output: next(iter(answers(batch.inputs).values()))}


def _truth(batch: Batch, known: np.ndarray) -> np.ndarray:
    """Of one kind for all rows: classes as they are, values as float32; unknown where this batch has none."""
    kind = np.int64 if known.dtype.kind == "i" else np.float32
    if batch.truth is not None:
        return batch.truth.astype(kind)
    return np.full((batch.rows, *known.shape[1:]), UNKNOWN if kind is np.int64 else np.nan, kind)


def _order(counts: Sequence[int], seed: int) -> np.ndarray:
    """Each set's rows in an order of chance, set after set: data that is sorted by class must not be held back class by class."""
    chance = np.random.default_rng(seed)
    starts = np.cumsum([0, *counts[:-1]])
    return np.concatenate([start + chance.permutation(count) for start, count in zip(starts, counts, strict=True)])


@contextmanager
def _teacher(store: Store, version: Version, teacher: str, output: str) -> Iterator[Ask]:
    """Gives the one output that answers, for rows as clients send them: of a served version as its clients get it, of a stored one as its
    graph gives it, before any declared processing of answers."""
    if is_url(teacher):
        yield lambda inputs: _answering(predict(teacher, dict(inputs)).outputs, output, teacher)
        return
    taught = store.version(parse_ref(teacher)) if teacher else version
    manifest = taught.manifest
    place = manifest.signature_names.index(TENSORS_SIGNATURE) if manifest.processing else 0
    name = graph_output(manifest, output)
    with reader(taught) as read, loaded(taught) as worker:
        yield lambda inputs: _answering(worker.run(read(inputs), place=place), name, teacher)


def _answering(outputs: Arrays, name: str, teacher: str) -> Arrays:
    """Only the output that teaches; a teacher with a single one need not call it by the same name."""
    if name in outputs:
        return {name: outputs[name]}
    if len(outputs) == 1:
        return outputs
    raise UsageError(
        f"The teacher {teacher} has no output '{name[:64]}'; it has {', '.join(list(outputs)[:8])}.",
        code="BAD_TEACHER",
        field="teacher",
        hint="A teacher answers the same question under the same name.",
    )


def graph_output(manifest: Manifest, output: str) -> str:
    """The output of the graph that an answer comes from: they may be called otherwise behind declared processing."""
    outputs = manifest.signatures[TENSORS_SIGNATURE].outputs if manifest.processing else manifest.signature.outputs
    names = [spec.name for spec in outputs]
    if output in names:
        return output
    if len(names) == 1:
        return names[0]
    raise UsageError(f"'{output[:64]}' comes from one of {', '.join(names[:8])}, and nobody says which.", code="BAD_OUTPUT", field="output")
