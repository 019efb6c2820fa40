"""A session that reads encoded inputs row by row, runs the graph on what it read, and makes answers of the graph's outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from towline.core import dtypes, steps
from towline.core.engine import Engine, EngineOptions, Session
from towline.core.errors import EngineError, Kind
from towline.core.manifest import TENSORS_SIGNATURE, Manifest, Signature
from towline.core.steps import Chain, read_steps
from towline.engines.processing.answers import Answers
from towline.engines.processing.errors import missing

_MAX_LABELS_BYTES = 16 << 20
# Per graph input: one array with a row axis, or one array per row, of which shapes may differ.
Read = Mapping[str, "np.ndarray | list[np.ndarray]"]


class Reader(Protocol):
    """Reads the inputs of one chain. Raises EngineError that names the row."""

    def read(self, inputs: Mapping[str, np.ndarray]) -> Read: ...


def load_processed(engine: Engine, folder: Path, manifest: Manifest, options: EngineOptions) -> Session:
    """Load the bare graph with `engine`, and put the declared processing around it."""
    graph = manifest.signatures[TENSORS_SIGNATURE]
    # Read first: a missing package is told before a large model is loaded.
    chains, after = read_steps(manifest.processing)
    readers = [_reader(chain, graph, folder) for chain in chains]
    mask = next((chain.source.mask for chain in chains if isinstance(chain.source, steps.Text)), "")
    answers = Answers(after, after[0].output, _labels(folder, manifest), mask) if after else None
    return ProcessedSession(engine.load(folder, manifest.bare(), options), readers, answers, manifest.signature, graph)


class ProcessedSession:
    """`run` answers the outer signature; the signature `tensors` goes to the graph as it is."""

    def __init__(self, session: Session, readers: Sequence[Reader], answers: Answers | None, outer: Signature, graph: Signature) -> None:
        self._session = session
        self._readers = readers
        self._answers = answers
        self._graph_inputs = [spec.name for spec in graph.inputs]
        self._graph_outputs = [spec.name for spec in graph.outputs]
        self._outputs = [(spec.name, dtypes.BY_NAME[spec.dtype].numpy) for spec in outer.outputs]
        self._one_by_one = any(spec.shape is not None and spec.shape[:1] == (1,) for spec in graph.inputs)
        self._stopped: set[int] = set()

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        self._stopped.discard(slot)
        if signature:
            return self._session.run(inputs, slot=slot)
        read: dict[str, np.ndarray | list[np.ndarray]] = {}
        for reader in self._readers:
            read |= reader.read(inputs)
        # What no chain feeds, clients send as it is.
        read |= {name: inputs[name] for name in self._graph_inputs if name not in read}
        groups = _groups(read, one_by_one=self._one_by_one)
        if len(groups) == 1 and not self._one_by_one:
            return self._answer({name: _stacked(read[name]) for name in self._graph_inputs}, slot)
        answers = []
        for places in groups:
            if slot in self._stopped:
                raise EngineError("The run was stopped: its deadline had passed.", code="TERMINATED", kind=Kind.DEADLINE)
            answers.append(self._answer({name: _stacked(_taken(read[name], places)) for name in self._graph_inputs}, slot))
        return [_in_order([answer[place] for answer in answers], groups, name) for place, (name, _) in enumerate(self._outputs)]

    def terminate(self, slot: int) -> None:
        self._stopped.add(slot)
        self._session.terminate(slot)

    def _answer(self, fed: Mapping[str, np.ndarray], slot: int) -> list[np.ndarray]:
        """The outer outputs of rows whose tensors have one shape."""
        found = dict(zip(self._graph_outputs, self._session.run(fed, slot=slot), strict=True))
        if self._answers is not None:
            found |= self._answers.finish(found[self._answers.of], fed)
        return [found[name] if dtype.kind == "O" else np.asarray(found[name], dtype) for name, dtype in self._outputs]


def _groups(read: Read, *, one_by_one: bool) -> list[list[int]]:
    """Which rows run together: those whose arrays have equal shapes, in the order they first appear."""
    rows = len(next(iter(read.values())))
    if one_by_one:
        return [[row] for row in range(rows)]
    varying = [arrays for arrays in read.values() if isinstance(arrays, list)]
    groups: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for row in range(rows):
        groups.setdefault(tuple(arrays[row].shape for arrays in varying), []).append(row)
    return list(groups.values())


def _taken(arrays: np.ndarray | list[np.ndarray], places: list[int]) -> np.ndarray | list[np.ndarray]:
    return [arrays[place] for place in places] if isinstance(arrays, list) else arrays[places]


def _stacked(arrays: np.ndarray | list[np.ndarray]) -> np.ndarray:
    if isinstance(arrays, list):
        return np.stack(arrays)
    return np.ascontiguousarray(arrays)


def _in_order(answers: list[np.ndarray], groups: list[list[int]], name: str) -> np.ndarray:
    """The rows of all groups, each in the place its request gave it."""
    shapes = {answer.shape[1:] for answer in answers}
    if len(shapes) > 1:
        raise EngineError(
            f"The rows have answers of unlike shapes in '{name}', so they cannot be one answer.",
            code="UNLIKE_ROWS",
            kind=Kind.INVALID,
            hint="Send them one by one.",
        )
    if any(len(answer) != len(places) for answer, places in zip(answers, groups, strict=True)):
        raise EngineError(f"Output '{name}' does not have one row for each row of its input.", code="BAD_OUTPUT")
    whole = np.empty((sum(map(len, groups)), *shapes.pop()), answers[0].dtype)
    for answer, places in zip(answers, groups, strict=True):
        whole[places] = answer
    return whole


def _reader(chain: Chain, graph: Signature, folder: Path) -> Reader:
    """The reader of a chain. Each brings its library, and only when it is declared."""
    wanted = {spec.name: dtypes.BY_NAME[spec.dtype].numpy for spec in graph.inputs}
    if isinstance(chain.source, steps.Image):
        try:
            from towline.engines.processing.image import ImageReader
        except ImportError as error:
            raise missing("Pillow", "image") from error
        return ImageReader(chain, wanted[chain.source.into])
    if isinstance(chain.source, steps.Audio):
        from towline.engines.processing.audio import AudioReader

        return AudioReader(chain, wanted[chain.source.into])
    if isinstance(chain.source, steps.Text):
        try:
            from towline.engines.processing.text import TextReader
        except ImportError as error:
            raise missing("tokenizers", "text") from error
        return TextReader(chain, wanted, folder)
    from towline.engines.processing.table import TableReader

    return TableReader(chain, wanted[chain.source.into])


def _labels(folder: Path, manifest: Manifest) -> list[bytes]:
    if manifest.labels is None:
        return []
    with (folder / manifest.labels).open("rb") as file:
        return file.read(_MAX_LABELS_BYTES).splitlines()
