"""Round weights so that what they are multiplied to stays: down or up as the inputs weigh the errors, not each to the nearest.

With x what a product reads in calibration, integers q in place of weights w lose (w - s q)ᵀ E[x xᵀ] (w - s q). Weights are rounded one
after another, and what each loses is made up for by those still to come, as in optimal brain surgery (Hassibi and Stork 1993;
Frantar et al. 2023, "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers"). What is left of it
on the average, (w - s q)ᵀ E[x], is added to the bias (Nagel et al. 2019, bias correction).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.moments import layers, moments
from towline.optimize.qdq import constants, prepared, put, quantising

# As ONNX Runtime bounds symmetric integers; with reduce_range it uses one more than half of them.
LIMITS = {8: 127, 7: 64}
# A hundredth of the mean square is added to the diagonal: few rows tell little of how inputs go together.
DAMPING = 0.01
# What is lost in as many columns is passed on to the others at once.
_BLOCK = 64


@dataclass(frozen=True)
class Round:
    """Floats in, floats out: weights on the grid of the `bits` that Int8 finds again, one scale per output channel.

    Only the biases are changed for the better where it is not `learned`: then each weight goes to the nearest.
    """

    bits: Literal[8, 7] = 8
    learned: bool = True
    bias_correction: bool = True
    seed: int = 0

    name = "round"
    environment = ""

    @property
    def settings(self) -> str:
        words = [f"{self.bits}-bit weights", "learned" if self.learned else "nearest"]
        return ", ".join(words + (["biases corrected"] if self.bias_correction else []))

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx

        if not material.calibration:
            raise PassFailed("Rounding that looks at what is multiplied needs calibration data.", hint="Give some rows: --data PATH.")
        with quantising():
            graph = prepared(model, into)
            whole = onnx.load(graph)
            weights = constants(whole)
            found = layers(whole.graph, weights)
            if not found:
                raise PassFailed("There is nothing to round: no convolution or matrix product has constant weights of its own.")
            seen = moments(graph, found, material.calibration, seed=self.seed)
            changed: dict[str, np.ndarray] = {}
            for place, (name, layer) in enumerate(found.items()):
                if place % 10 == 0:
                    material.say(f"Rounding the weights of operator {place + 1} of {len(found)}")
                limit, own = LIMITS[self.bits], layer.weights
                steps = np.abs(own).max(axis=2, keepdims=True) / limit
                steps[steps == 0] = 1.0
                numbers = rounded(own, seen[name].square, steps, limit) if self.learned else np.rint(own / steps)
                changed[layer.node.input[1]] = layer.stored(numbers * steps, weights[layer.node.input[1]])
                if self.bias_correction and len(layer.node.input) > 2:
                    lost = np.einsum("gok,gk->go", own - numbers * steps, seen[name].mean).reshape(-1)
                    changed[layer.node.input[2]] = (weights[layer.node.input[2]] + lost).astype(np.float32)
        put(whole, changed)
        onnx.save(whole, into / "model.onnx")
        graph.unlink()
        return Passed("model.onnx", (f"The weights of {len(found)} operators are rounded to {self.bits} bits.",))


def rounded(weights: np.ndarray, square: np.ndarray, steps: np.ndarray, limit: int) -> np.ndarray:
    """Integers [groups, outputs, inputs] for weights of that shape, with `square` E[x xᵀ] and `steps` [groups, outputs, 1]. Pure.

    The greatest weight of each output stays at the end of the range: whoever looks for its scale finds the same.
    """
    inputs = weights.shape[2]
    diagonal = np.diagonal(square, axis1=1, axis2=2)
    # Those that weigh most come first, while there are others left to make up for them.
    order = np.argsort(-diagonal, axis=1, kind="stable")
    left = np.take_along_axis(weights, order[:, None, :], axis=2)
    sorted_square = np.take_along_axis(np.take_along_axis(square, order[:, :, None], axis=1), order[:, None, :], axis=2)
    damped = sorted_square + np.eye(inputs) * (DAMPING * diagonal.mean(axis=1) + 1e-12)[:, None, None]
    spread = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    greatest = np.abs(left).argmax(axis=2)
    ends = np.sign(np.take_along_axis(left, greatest[:, :, None], axis=2))[:, :, 0] * limit
    numbers = np.empty_like(left)
    for start in range(0, inputs, _BLOCK):
        stop = min(start + _BLOCK, inputs)
        lost = np.empty((*left.shape[:2], stop - start))
        for place in range(start, stop):
            near = np.clip(np.rint(left[:, :, place] / steps[:, :, 0]), -limit, limit)
            numbers[:, :, place] = np.where(greatest == place, ends, near)
            error = (left[:, :, place] - numbers[:, :, place] * steps[:, :, 0]) / spread[:, place, place, None]
            left[:, :, place + 1 : stop] -= error[:, :, None] * spread[:, None, place, place + 1 : stop]
            lost[:, :, place - start] = error
        left[:, :, stop:] -= lost @ spread[:, start:stop, stop:]
    back = np.empty_like(numbers)
    np.put_along_axis(back, np.broadcast_to(order[:, None, :], back.shape), numbers, axis=2)
    return back
