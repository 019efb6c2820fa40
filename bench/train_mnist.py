"""`python bench/train_mnist.py`: train the network that `make bench-optimize` makes smaller, bench/mnist_cnn.onnx, again (20 minutes).

Three convolutions and two dense layers, drawn as a graph and trained by the loop that students are trained by: no framework's exporter.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import onnx

import mnist
from towline.optimize.process import Work, run_pass
from towline.optimize.rows import write_rows
from towline.optimize.students.asked import Asked, Taken
from towline.optimize.students.drawn import Drawing
from towline.optimize.students.folding import folded
from towline.optimize.train import Finetune
from towline.optimize.training.settings import Training

MODEL = Path(__file__).parent / "mnist_cnn.onnx"
ASKED = Asked((Taken("image", "float32", ("N", 1, mnist.SIDE, mnist.SIDE)),), Taken("scores", "float32", ("N", 10)), 1, "")
TRAINING = Training(epochs=2, rate=2e-3)
HELD_BACK, TIMEOUT_S = 1000, 7200


def main() -> int:
    fitted, _ = mnist.load()
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as scratch:
        folder = Path(scratch)
        onnx.save(drawn(), folder / "drawn.onnx")
        batch = ({"image": fitted.images}, fitted.labels, {})
        rows = write_rows(folder / "rows", [batch], count=len(fitted.labels), output="scores", held_back=HELD_BACK)
        work = Work(folder / "drawn.onnx", rows=rows, say=print, timeout_s=TIMEOUT_S)
        passed = run_pass(Finetune(TRAINING), work, folder / "trained")
        onnx.save(folded(onnx.load(folder / "trained" / passed.model)), MODEL)
    return 0


def drawn() -> onnx.ModelProto:
    """257,000 parameters, 22 million multiply-adds."""
    drawing = Drawing(seed=0)
    last = drawing.convolved("conv1", "image", 1, 32, kernel=3)
    last = _pooled(drawing, "pool1", drawing.convolved("conv2", last, 32, 64, kernel=3))
    last = _pooled(drawing, "pool2", drawing.convolved("conv3", last, 64, 64, kernel=3))
    last = drawing.dense("dense", drawing.node("Flatten", "flat", [last], axis=1), 64 * 7 * 7, 64)
    drawing.dense("logits", drawing.node("Relu", "dense.relu", [last]), 64, 10)
    return drawing.finished(ASKED)


def _pooled(drawing: Drawing, name: str, taken: str) -> str:
    return drawing.node("MaxPool", name, [taken], kernel_shape=[2, 2], strides=[2, 2])


if __name__ == "__main__":
    sys.exit(main())
