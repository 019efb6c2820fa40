"""Fuse the steps around a graph into it, and take the fused graph only when it answers as the steps did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from towline.app.importing.trying import Requests
from towline.convert.declaration import refused
from towline.convert.files import Copied
from towline.convert.fuse import plan, remaining, write_fused
from towline.convert.inspected import Inspected
from towline.convert.onnx import Inspection
from towline.convert.processing import Prepared, prepare
from towline.convert.version import draft_manifest
from towline.core.errors import EngineError, ImportRefused

if TYPE_CHECKING:
    from towline.app.importing.trying import StartWorker

# How far a score may move, as a share of the greatest one; and in how many rows the first class must stay.
SCORE_SHARE = 1 / 32
SAME_FIRST = 0.9


class Fused(msgspec.Struct, frozen=True):
    """The fused graph as it was read again, what is left to the worker, and how its answers differ, in a sentence."""

    inspected: Inspected
    prepared: Prepared
    note: str


def fuse_steps(
    copied: Copied, inspected: Inspected, prepared: Prepared, labels: tuple[str, ...] | None, requests: Requests, start_worker: StartWorker
) -> Fused:
    """Replace the staged model by one that does the steps itself. Labels are staged already. Raises ImportRefused."""
    if len(copied.files) != 1:
        raise refused("a model with external data cannot be fused: save it in one file")
    wanted = plan(prepared, inspected.signature, labels)
    before = _answers(copied, inspected, prepared, requests, start_worker, has_labels=labels is not None)
    model = copied.folder / copied.model_file
    write_fused(model, wanted)
    with Inspection(model) as inspection:
        again = inspection.result()
    left = prepare(remaining(prepared), again.signature, labels)
    after = _answers(copied, again, left, requests, start_worker, has_labels=labels is not None)
    return Fused(again, left, compared(before, after))


def compared(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> str:
    """How the answers of the fused graph differ, or ImportRefused when they are others. Pure."""
    said = []
    for name, array in before.items():
        if array.dtype.kind == "f":
            gap = float(np.abs(array.astype(np.float64) - after[name]).max(initial=0.0))
            scale = float(np.abs(array).max(initial=0.0)) or 1.0
            said.append(f"{name} moves by up to {gap:.2g}")
            if not gap <= SCORE_SHARE * scale:
                raise _differs(f"{name} moves by up to {gap:.2g}, where {SCORE_SHARE * scale:.2g} is allowed")
        elif name == "index":
            same = float((array[..., 0] == after[name][..., 0]).mean())
            said.append(f"the first class is the same in {same:.0%} of {len(array)} rows")
            if same < SAME_FIRST:
                raise _differs(f"the first class is the same in only {same:.0%} of {len(array)} rows")
    return f"Fused: beside the steps one by one, {', '.join(said) or 'nothing could be compared'}."


def _differs(how: str) -> ImportRefused:
    return ImportRefused(
        f"The fused graph does not answer as the steps do one by one: {how}.",
        code="FUSED_DIFFERS",
        field="fuse",
        hint="Import it without --fuse.",
    )


def _answers(
    copied: Copied, inspected: Inspected, prepared: Prepared, requests: Requests, start_worker: StartWorker, *, has_labels: bool
) -> dict[str, np.ndarray]:
    worker = start_worker(copied.folder, draft_manifest(copied, inspected, prepared, has_labels=has_labels))
    try:
        return worker.run(requests.tried[0])
    except EngineError as error:
        raise ImportRefused(f"The engine refuses the sample; it said: {error.message}", code="SAMPLE_REFUSED", field="sample") from None
    finally:
        worker.close()
