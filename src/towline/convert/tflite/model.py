"""What a .tflite file holds, read by ourselves and within limits before any library sees it. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from towline.convert import wording
from towline.convert.tflite.flatbuffer import Flatbuffer, Table, damaged
from towline.convert.tflite.operators import RUNS_GRAPHS, operator_name
from towline.core.errors import ImportRefused
from towline.core.frames import MAX_RANK

IDENTIFIER = b"TFL3"
MAX_GRAPHS = 1024
MAX_TENSORS = 200_000
MAX_OPERATORS = 200_000
MAX_SIGNATURES = 64
MAX_TENSOR_BYTES = 4 << 30
# The schema's TensorType, by number, and the bytes of one element: 0 where they are not that simple.
_TYPES = (
    ("float32", 4),
    ("float16", 2),
    ("int32", 4),
    ("uint8", 1),
    ("int64", 8),
    ("string", 0),
    ("bool", 1),
    ("int16", 2),
    ("complex64", 8),
    ("int8", 1),
    ("float64", 8),
    ("complex128", 16),
    ("uint64", 8),
    ("resource", 0),
    ("variant", 0),
    ("uint32", 4),
    ("uint16", 2),
    ("int4", 0),
    ("bfloat16", 2),
    ("int2", 0),
    ("uint4", 0),
    ("float8_e4m3fn", 1),
    ("float8_e5m2", 1),
)


@dataclass(frozen=True)
class Tensor:
    """`shape` has -1 for a dim that is left open. `scale` and `zero_point` are those of the whole tensor: real = scale * (q - zero_point).

    `constant_bytes` is the size of its content in the file, 0 for what is computed.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float | None
    zero_point: int
    constant_bytes: int

    @property
    def elements(self) -> int:
        return math.prod(max(size, 1) for size in self.shape)


@dataclass(frozen=True)
class Graph:
    """`operators` are names, `runs` the places of the graphs that each operator of a name runs."""

    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: Counter[str]
    runs: dict[str, frozenset[int]]


@dataclass(frozen=True)
class FileSignature:
    """Names of its own for tensors of one graph."""

    key: str
    graph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True)
class TfliteModel:
    graphs: tuple[Graph, ...]
    signatures: tuple[FileSignature, ...]
    producer: str

    @property
    def operators(self) -> Counter[str]:
        return sum((graph.operators for graph in self.graphs), Counter())

    @property
    def parameters(self) -> int:
        """Elements of all constants that are numbers, small tables of sizes and axes included."""
        return sum(
            tensor.elements for graph in self.graphs for tensor in graph.tensors if tensor.constant_bytes and tensor.dtype != "string"
        )


def read_model(raw: bytes | memoryview) -> TfliteModel:
    """Raises ImportRefused for what is damaged, larger than a model is, or keeps its weights in other files."""
    file = Flatbuffer(raw)
    if bytes(raw[4:8]) != IDENTIFIER:
        raise ImportRefused("The file is no TensorFlow Lite model: its identifier is missing.", code="DAMAGED_FILE")
    root = file.root()
    version = root.number(0, "I")
    if version != 3:
        raise ImportRefused(f"The TensorFlow Lite file has schema version {version}; version 3 is read.", code="UNSUPPORTED_VERSION")
    if root.has(8) and root.tables(8):
        raise ImportRefused(
            "The TensorFlow Lite file keeps weights in other files, which it names.",
            code="EXTERNAL_WEIGHTS",
            hint="Export it as one file.",
        )
    codes = [_operator(code) for code in root.tables(1)]
    buffers = [_buffer(table) for table in root.tables(4)]
    graphs = root.tables(2)
    if not 0 < len(graphs) <= MAX_GRAPHS:
        raise ImportRefused(f"The TensorFlow Lite file has {len(graphs)} graphs; 1 to {MAX_GRAPHS} are taken.", code="LIMIT_EXCEEDED")
    reader = _Reader(codes, buffers, len(graphs))
    return reader.model([reader.graph(table) for table in graphs], root)


def _operator(code: Table) -> str:
    # Numbers up to 126 are in the older field as well, which is all that an old file has.
    return operator_name(max(code.number(3, "i"), code.number(0, "b")), code.text(1))


def _buffer(table: Table) -> int:
    """The bytes it holds."""
    if table.number(1, "Q") > 1 or table.number(2, "Q") > 1:
        raise ImportRefused("The TensorFlow Lite file keeps weights behind its own end, as files above 2 GiB do.", code="EXTERNAL_WEIGHTS")
    return table.span(0)[1]


class _Reader:
    def __init__(self, codes: list[str], buffers: list[int], graphs: int) -> None:
        self._codes = codes
        self._buffers = buffers
        self._graphs = graphs
        self._tensors = 0
        self._operators = 0

    def model(self, graphs: list[Graph], root: Table) -> TfliteModel:
        tables = root.tables(7)
        if len(tables) > MAX_SIGNATURES:
            raise ImportRefused(
                f"The TensorFlow Lite file has {len(tables)} signatures; {MAX_SIGNATURES} are taken.", code="LIMIT_EXCEEDED"
            )
        signatures = tuple(self._signature(table, graphs) for table in tables)
        if len({one.key for one in signatures}) != len(signatures):
            raise damaged("two signatures have one name")
        return TfliteModel(tuple(graphs), signatures, wording.sentence(root.text(3)))

    def graph(self, table: Table) -> Graph:
        tensors, operators = table.tables(0), table.tables(3)
        self._tensors += len(tensors)
        self._operators += len(operators)
        if self._tensors > MAX_TENSORS or self._operators > MAX_OPERATORS:
            raise ImportRefused(
                f"The TensorFlow Lite file has more than {MAX_TENSORS} tensors or {MAX_OPERATORS} operators.", code="LIMIT_EXCEEDED"
            )
        read = tuple(self._tensor(one) for one in tensors)
        names: Counter[str] = Counter()
        runs: dict[str, set[int]] = {}
        for one in operators:
            name = self._named(one)
            names[name] += 1
            for slot in (1, 2, 8):
                _check_places(one.numbers(slot, "i"), len(read))
            if name in RUNS_GRAPHS:
                runs.setdefault(name, set()).update(self._runs(name, one))
        inputs, outputs = table.numbers(1, "i"), table.numbers(2, "i")
        _check_places((*inputs, *outputs), len(read), least=0)
        return Graph(read, inputs, outputs, names, {name: frozenset(places) for name, places in runs.items()})

    def _named(self, operator: Table) -> str:
        code = operator.number(0, "I")
        if code >= len(self._codes):
            raise damaged(f"an operator has code {code} of {len(self._codes)}")
        if operator.number(9, "Q") or operator.number(10, "Q"):
            raise ImportRefused("The TensorFlow Lite file keeps an operator's options behind its own end.", code="EXTERNAL_WEIGHTS")
        return self._codes[code]

    def _runs(self, name: str, operator: Table) -> set[int]:
        slot, fields = RUNS_GRAPHS[name]
        options = operator.table(slot)
        places = {options.number(field, "i") if options else 0 for field in fields}
        if not all(0 <= place < self._graphs for place in places):
            raise damaged(f"{name} runs graph {max(places)} of {self._graphs}")
        return places

    def _tensor(self, table: Table) -> Tensor:
        name, number = table.text(3), table.number(1, "b")
        if not 0 <= number < len(_TYPES):
            raise ImportRefused(f"Tensor {wording.name(name)} has type {number}, which is not known.", code="UNSUPPORTED_TYPE")
        dtype, size = _TYPES[number]
        given, left_open = table.numbers(0, "i"), table.numbers(7, "i")
        shape = left_open if len(left_open) == len(given) else given
        held = self._held(table)
        if table.number(10, "I"):
            raise ImportRefused(f"Tensor {wording.name(name)} lies in another file.", code="EXTERNAL_WEIGHTS")
        _check_size(name, given, shape, size)
        if held and size and not table.has(6) and held != size * math.prod(given):
            raise damaged(f"tensor {wording.name(name)} has {held} bytes where its shape asks for {size * math.prod(given)}")
        scale, zero_point = _affine(table.table(4))
        return Tensor(name, dtype, shape, scale, zero_point, held)

    def _held(self, table: Table) -> int:
        place = table.number(2, "I")
        if place and place >= len(self._buffers):
            raise damaged(f"a tensor has buffer {place} of {len(self._buffers)}")
        return self._buffers[place] if place else 0

    def _signature(self, table: Table, graphs: list[Graph]) -> FileSignature:
        place = table.number(4, "I")
        if place >= len(graphs):
            raise damaged(f"a signature has graph {place} of {len(graphs)}")
        count = len(graphs[place].tensors)
        inputs, outputs = (_names(table.tables(slot), count) for slot in (0, 1))
        return FileSignature(table.text(2), place, inputs, outputs)


def _names(maps: list[Table], tensors: int) -> dict[str, int]:
    found = {one.text(0): one.number(1, "I") for one in maps}
    if len(found) != len(maps):
        raise damaged("a signature uses one name twice")
    _check_places(tuple(found.values()), tensors, least=0)
    return found


def _check_places(places: tuple[int, ...], count: int, *, least: int = -1) -> None:
    if places and not least <= min(places) <= max(places) < count:
        wrong = next(place for place in places if not least <= place < count)
        raise damaged(f"tensor {wrong} of {count} is named")


def _check_size(name: str, given: tuple[int, ...], shape: tuple[int, ...], size: int) -> None:
    if len(given) > MAX_RANK:
        raise ImportRefused(f"Tensor {wording.name(name)} has rank {len(given)}; at most {MAX_RANK} is taken.", code="LIMIT_EXCEEDED")
    if min(given, default=0) < -1 or min(shape, default=0) < -1:
        raise damaged(f"tensor {wording.name(name)} has a negative size")
    if math.prod(max(one, 1) for one in given) * max(size, 1) > MAX_TENSOR_BYTES:
        raise ImportRefused(f"Tensor {wording.name(name)} would take more than {MAX_TENSOR_BYTES >> 30} GiB.", code="LIMIT_EXCEEDED")


def _affine(table: Table | None) -> tuple[float | None, int]:
    """Scale and zero point of the whole tensor; None where it has none, or one for each channel."""
    if table is None:
        return None, 0
    scales, zeros = table.reals(2), table.numbers(3, "q")
    return (scales[0], zeros[0] if zeros else 0) if len(scales) == 1 else (None, 0)
