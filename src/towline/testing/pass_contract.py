"""The contract of a pass (optimize/base.py) as a check that ours and a stranger's both run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import onnx


def check_pass(one: Any, model: Path, run: Callable[[Path], Any]) -> Any:
    """Raise AssertionError with a sentence for the first clause that the pass `one` breaks; else give what it wrote.

    `model` is an ONNX file that it can change. `run(into)` runs it on that model into the new folder `into`, as the search does (in a
    process of its own, with the rows it needs), and gives what it told of that; it is called twice. Call it from a test of a pass.
    """
    _check_value(one)
    before = _digest(model)
    first, again = (run(model.parent / f"{model.stem}-{place}") for place in (1, 2))
    assert _digest(model) == before, "a pass must not change the model that it is given"
    written = [_written(model.parent / f"{model.stem}-{place}", passed) for place, passed in ((1, first), (2, again))]
    assert _digest(written[0]) == _digest(written[1]), "the same pass wrote another model the second time"
    _check_doors(onnx.load(model), onnx.load(written[0]))
    assert all(isinstance(note, str) and note for note in first.notes), "notes are sentences"
    return first


def _check_value(one: Any) -> None:
    kind = type(one)
    assert dataclasses.is_dataclass(kind), f"{kind.__name__} is no dataclass"
    assert kind.__dataclass_params__.frozen, f"{kind.__name__} can be changed after it was made"  # type: ignore[attr-defined]
    words: Sequence[tuple[str, str]] = (("name", one.name), ("settings", one.settings), ("environment", one.environment))
    for what, value in words:
        assert isinstance(value, str), f"its {what} is no text"
        assert "\n" not in value, f"its {what} takes more than one line"
    assert one.name, "it has no name"
    settings = json.loads(json.dumps(dataclasses.asdict(one)))
    made = msgspec.convert(settings, kind, strict=False)
    assert made == one, "its settings, written as JSON and read again, are another pass: a search could not go on where it was"
    assert hash(made) == hash(one), "equal passes have unlike hashes"


def _written(folder: Path, passed: Any) -> Path:
    found = folder / str(passed.model)
    assert found.is_file(), f"it told of a model '{passed.model}', and there is none"
    assert found.resolve().is_relative_to(folder.resolve()), "it wrote its model elsewhere"
    return found


def _check_doors(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Whoever asks the model must not notice: names, dtypes and ranks stay."""
    for what in ("input", "output"):
        had, has = (_doors(getattr(model.graph, what)) for model in (before, after))
        assert has == had, f"the graph's {what}s were {had} and are {has}"


def _doors(values: Any) -> list[tuple[str, int, int]]:
    return [(one.name, one.type.tensor_type.elem_type, len(one.type.tensor_type.shape.dim)) for one in values]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
