"""The rows of a data set after adversarial steps against a version, by its gradients, which PyTorch finds in an environment of its own."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from towline.core.errors import MissingExtra
from towline.core.frames import decode_frame
from towline.core.version import Version
from towline.optimize.attack import Attack
from towline.optimize.base import Arrays, PassFailed
from towline.optimize.process import Work, run_pass
from towline.optimize.rows import write_rows
from towline.verify.data.dataset import DataSet

# One step, and as many as PGD is usually given.
ATTACKS = {"fgsm": 1, "pgd": 10}


def attacked(version: Version, data: DataSet, output: str, share: float) -> tuple[dict[str, DataSet], str]:
    """The rows by the name of each attack, and why there are none where that is so: no graph with gradients, no float input, no PyTorch."""
    manifest = version.manifest
    if manifest.engine != "onnxruntime" or manifest.processing or manifest.handler is not None:
        return {}, "No adversarial steps: they are taken on ONNX models that take tensors."
    model = version.path / manifest.model_file
    with tempfile.TemporaryDirectory(prefix="towline-attack-") as scratch:
        work = Path(scratch)
        batch: tuple[Arrays, np.ndarray | None, Arrays] = (data.read(0, data.rows), data.truth, {})
        rows = write_rows(work / "rows", [batch], count=data.rows, output=output, held_back=0)
        try:
            return {name: _moved(data, model, rows, Attack(share, steps), work / name) for name, steps in ATTACKS.items()}, ""
        except (PassFailed, MissingExtra) as failure:
            return {}, f"No adversarial steps: {failure.message}" + (f" {failure.hint}" if failure.hint else "")


def _moved(data: DataSet, model: Path, rows: Path, attack: Attack, into: Path) -> DataSet:
    inputs = decode_frame((into / run_pass(attack, Work(model, rows=rows), into).model).read_bytes())
    return replace(data, read=lambda start, stop: {name: array[start:stop] for name, array in inputs.items()})
