"""MobileNetV2 with random weights: the work and the sizes of the real network (3.5 million parameters, a 602,112 byte input)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

import models

# (expansion, channels, repeats, stride of the first): table 2 of Sandler et al., "MobileNetV2", 2018.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
CLASSES = 1000
SHAPE = (3, 224, 224)


def write_cnn(folder: Path) -> models.Model:
    network = _Network()
    channels, last = 32, network.convolution("x", 3, 32, kernel=3, stride=2)
    for expansion, wider, repeats, first in BLOCKS:
        for number in range(repeats):
            last = network.block(last, channels, wider, stride=first if number == 0 else 1, expansion=expansion)
            channels = wider
    last = network.convolution(last, channels, 1280, kernel=1)
    network.classify(last, 1280)
    row = network.random.normal(0, 1, SHAPE).astype(np.float32)
    return models.save(folder, models.CNN, network.nodes, network.weights, row, classes=CLASSES)


class _Network:
    """Collects nodes and weights. Batch normalisation is folded into the convolutions, as exporters do."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(1)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, npt.NDArray[np.float32]] = {"zero": np.float32(0).reshape(()), "six": np.float32(6).reshape(())}

    def block(self, source: str, channels: int, wider: int, *, stride: int, expansion: int) -> str:
        """An inverted residual: widen, filter each channel, narrow; added to its input where the shapes allow it."""
        hidden = channels * expansion
        last = self.convolution(source, channels, hidden, kernel=1) if expansion != 1 else source
        last = self.convolution(last, hidden, hidden, kernel=3, stride=stride, groups=hidden)
        last = self.convolution(last, hidden, wider, kernel=1, clipped=False)
        return self._node("Add", source, last) if stride == 1 and channels == wider else last

    def convolution(
        self, source: str, channels: int, wider: int, *, kernel: int, stride: int = 1, groups: int = 1, clipped: bool = True
    ) -> str:
        # He's scale keeps the activations alive through fifty layers.
        scale = (2.0 / (channels // groups * kernel * kernel)) ** 0.5
        weight = self._weight(scale, (wider, channels // groups, kernel, kernel))
        bias = self._weight(0.01, (wider,))
        last = self._node("Conv", source, weight, bias, strides=[stride] * 2, pads=[kernel // 2] * 4, group=groups)
        return self._node("Clip", last, "zero", "six") if clipped else last

    def classify(self, source: str, channels: int) -> None:
        pooled = self._node("Flatten", self._node("GlobalAveragePool", source))
        logits = self._node("Gemm", pooled, self._weight(0.05, (channels, CLASSES)), self._weight(0.01, (CLASSES,)))
        self.nodes.append(helper.make_node("Softmax", [logits], ["y"], axis=1))

    def _weight(self, scale: float, shape: tuple[int, ...]) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = self.random.normal(0, scale, shape).astype(np.float32)
        return name

    def _node(self, kind: str, *inputs: str, **attributes: object) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name
