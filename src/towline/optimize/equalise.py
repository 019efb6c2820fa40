"""Cross-layer equalisation: give the channels of a tensor ranges alike, so that one scale serves them all in eight bits.

After Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction": channel c of a tensor is divided by
s_c where it is made and multiplied by s_c where it is read, and the answers stay. Theirs balances the weights before and after; weights
have a scale per channel here, so what is balanced is the tensor's range r_c against the weights that read it:
    s_c = sqrt(r_c / w_c)        w_c = max over outputs o of |W[o, c]| / max over channels of |W[o, .]|
or s_c = r_c where all who read it are depthwise, whose weights lose nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.channels import Group, attribute, groups, is_depthwise
from towline.optimize.qdq import channel_ranges, constants, prepared, put, quantising
from towline.optimize.sensitivity import answers, sqnr_db

# The greatest ratio of two scales: what is nearly dead in calibration may wake.
MOST = 64.0
# How far above what calibration saw a channel that is clipped may rise before it is clipped earlier than it was.
HEADROOM = 1.25
# Floats are rounded differently, no more: the least signal to noise of the answers to the rows of calibration.
LEAST_DB = 60.0


@dataclass(frozen=True)
class Equalise:
    """Floats in, floats out: what comes after it is quantised with less loss.

    A ReLU6 stays one: a channel that reached a fraction of 6 in calibration is scaled up to 6 less the headroom, so that it is clipped
    about where its range would have ended in eight bits.
    """

    name = "equalise"
    environment = ""

    @property
    def settings(self) -> str:
        return "channel ranges, cross-layer"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx

        if not material.calibration:
            raise PassFailed("Equalisation needs calibration data.", hint="Give some rows: --data PATH.")
        with quantising():
            before = prepared(model, into)
            whole = onnx.load(before)
            weights = constants(whole)
            found = groups(whole.graph, weights)
            if not found:
                raise PassFailed("There is nothing to equalise: no convolution's channels are read by a convolution or Gemm alone.")
            seen = channel_ranges(before, material.calibration)
            changed = dict(weights)
            for group in found:
                rescale(group, scales(group, changed, seen), changed)
        put(whole, {name: array for name, array in changed.items() if array is not weights[name]})
        onnx.save(whole, into / "model.onnx")
        noise_db = sqnr_db(answers(before, material.calibration), answers(into / "model.onnx", material.calibration))
        before.unlink()
        if noise_db < LEAST_DB:
            raise PassFailed(f"Equalised, the graph answers otherwise: {noise_db:.0f} dB over the noise, {LEAST_DB:g} expected.")
        return Passed("model.onnx", (f"The channels of {len(found)} tensors, or of those that are added up, have ranges alike.",))


def scales(group: Group, weights: Mapping[str, np.ndarray], seen: Mapping[str, np.ndarray]) -> np.ndarray:
    """What each channel of the group is divided by, float64 [channels]; `seen` has the greatest absolute value per channel. Pure."""
    reach = np.max([seen[name] for name in group.tensors if name in seen], axis=0).astype(np.float64)
    reach = np.maximum(reach, reach.max(initial=0) / MOST**2)
    dense = [_by_input(node, weights[node.input[1]]) for node in group.readers if not is_depthwise(node)]
    if not reach.any():
        return np.ones_like(reach)
    wanted = reach / reach.max()
    if dense:
        rows = [weight / np.maximum(weight.max(axis=1, keepdims=True), 1e-12) for weight in dense]
        share = np.maximum(np.max([row.max(axis=0) for row in rows], axis=0), 1 / MOST)
        wanted = np.sqrt(wanted / share)
    # The widest channel stays as it is.
    wanted *= np.max(reach / wanted) / reach.max()
    if group.clips:
        wanted = np.clip(wanted, np.minimum(HEADROOM * reach / min(group.clips), 1.0), 1.0)
    return np.asarray(np.maximum(wanted, wanted.max() / MOST))


def rescale(group: Group, by: np.ndarray, weights: dict[str, np.ndarray]) -> None:
    """Divide what makes the group's channels, multiply what reads them."""
    for node in group.makers:
        axis = 1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0
        weights[node.input[1]] = weights[node.input[1]] / _along(by, weights[node.input[1]], axis)
        if len(node.input) > 2:
            weights[node.input[2]] = weights[node.input[2]] / by
    for node in group.readers:
        weights[node.input[1]] = weights[node.input[1]] * _along(by, weights[node.input[1]], _input_axis(node))


def _input_axis(node: Any) -> int:
    if node.op_type == "Conv":
        return 0 if is_depthwise(node) else 1
    return 1 if attribute(node, "transB", 0) else 0


def _by_input(node: Any, weight: np.ndarray) -> np.ndarray:
    """The greatest absolute weight by [output, input channel]."""
    if node.op_type == "Conv":
        return np.asarray(np.abs(weight).reshape(*weight.shape[:2], -1).max(axis=2))
    return np.asarray(np.abs(weight if attribute(node, "transB", 0) else weight.T))


def _along(by: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    return by.reshape([-1 if place == axis else 1 for place in range(weight.ndim)])
