"""Rows of CSV, Parquet and JSON lines: columns become the inputs of a signature."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import MissingExtra
from towline.core.manifest import Signature, TensorSpec
from towline.verify.data.dataset import LABEL_NAMES, DataSet, fitting, in_memory, refused, truth_of

MAX_TABLE_BYTES = 4 << 30
MAX_COLUMNS = 100_000


def csv_data(raw: bytes, digest: str, signature: Signature, known: Sequence[str], label: str) -> DataSet:
    """With a header line. The column of labels is `label`, or the first that is called like one."""
    try:
        lines = list(csv.reader(io.StringIO(raw.decode("utf-8-sig"), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise refused(f"it is no CSV in UTF-8: {error}") from None
    if len(lines) < 2:
        raise refused("it has no rows below its header line")
    header, rows = lines[0], [line for line in lines[1:] if line]
    uneven = next((number for number, line in enumerate(rows, 2) if len(line) != len(header)), None)
    if uneven is not None:
        raise refused(f"line {uneven} has {len(rows[uneven - 2])} fields, the header {len(header)}")
    return _columns({name: [line[place] for line in rows] for place, name in enumerate(header)}, digest, signature, known, label)


def parquet_data(path: Path, digest: str, signature: Signature, known: Sequence[str], label: str) -> DataSet:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError:
        raise MissingExtra("Reading Parquet needs pyarrow.", hint="Install it: pip install 'towline[parquet]'") from None
    try:
        table = parquet.read_table(path)
        return _columns({name: table.column(name).to_pylist() for name in table.column_names}, digest, signature, known, label)
    except (ArrowException, OSError) as error:
        raise refused(f"it is no Parquet file: {str(error).splitlines()[0][:120]}") from None


def lines_data(raw: bytes, digest: str, signature: Signature, known: Sequence[str], label: str) -> DataSet:
    """One object per line: {"inputs": … or a key per input, "label": …}."""
    inputs: list[Any] = []
    truths: list[Any] = []
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise refused(f"line {number} is not JSON") from None
        if not isinstance(row, dict):
            raise refused(f"line {number} is no object with inputs")
        named = [name for name in ([label] if label else LABEL_NAMES) if name in row]
        if named:
            truths.append(row.pop(named[0]))
        inputs.append(row.get("inputs", row.get("input", row)))
    if not inputs:
        raise refused("it has no lines")
    if truths and len(truths) != len(inputs):
        raise refused(f"{len(inputs) - len(truths)} of its {len(inputs)} lines have no label")
    stacked: Any = inputs
    if all(isinstance(one, dict) for one in inputs):
        names = inputs[0].keys()
        if any(one.keys() != names for one in inputs):
            raise refused("its lines have unlike keys")
        stacked = {name: [one[name] for one in inputs] for name in names}
    truth, classes = truth_of(truths, known) if truths else (None, ())
    return in_memory(fitting(stacked, signature), digest, truth, classes, "line")


def _columns(columns: Mapping[str, list[Any]], digest: str, signature: Signature, known: Sequence[str], label: str) -> DataSet:
    if len(columns) > MAX_COLUMNS:
        raise refused(f"it has {len(columns)} columns")
    if label and label not in columns:
        raise refused(f"it has no column '{label[:64]}'; it has {', '.join(list(columns)[:8])}")
    named = label or next((name for name in columns if name.lower() in LABEL_NAMES), "")
    truth, classes = (None, ()) if not named else truth_of(_typed(columns[named]), known)
    features = {name: values for name, values in columns.items() if name != named}
    return in_memory(fitting(_inputs(features, signature), signature), digest, truth, classes)


def _inputs(features: Mapping[str, list[Any]], signature: Signature) -> dict[str, Any]:
    """A column per input where they are called alike, else all columns in their order as the one matrix there is."""
    if all(spec.name in features for spec in signature.inputs):
        return {spec.name: _column(features[spec.name], spec) for spec in signature.inputs}
    if len(signature.inputs) == 1:
        spec = signature.inputs[0]
        return {spec.name: np.stack([_column(values, TensorSpec(name, spec.dtype, ("N",))) for name, values in features.items()], axis=1)}
    missing = next(spec.name for spec in signature.inputs if spec.name not in features)
    raise refused(f"it has no column for input '{missing[:64]}'; it has {', '.join(list(features)[:8])}")


def _column(values: list[Any], spec: TensorSpec) -> np.ndarray:
    """One column as the dtype of its input; [N, 1] where that is how the input lies."""
    dtype = dtypes.BY_NAME[spec.dtype]
    if dtype.size:
        try:
            array = np.array(values, dtype=np.float64 if dtype.is_float else np.int64)
        except (ValueError, TypeError, OverflowError):
            wrong = next((value for value in values if not _is_number(value)), values[0])
            raise refused(f"column '{spec.name[:64]}' holds '{str(wrong)[:64]}', which is no {spec.dtype}") from None
    else:
        array = np.array([str(value).encode() for value in values], dtype=object)
    return array[:, None] if spec.shape is not None and len(spec.shape) == 2 else array


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (ValueError, TypeError):
        return False
    return True


def _typed(values: list[Any]) -> list[Any]:
    """Numbers where all are, words otherwise: CSV knows no types."""
    try:
        return [int(value) for value in values] if all(isinstance(value, str | int) for value in values) else values
    except ValueError:
        return [float(value) for value in values] if all(map(_is_number, values)) else values
