"""For each quantised graph of a folder: what the module that rounds as it does answers, and the graph with other weights written into it.

Runs in the environment `torch`: `rounded_answers.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import torch

from towline.optimize.pairs import read_pairs, rewrite
from towline.optimize.qat import FLOATS
from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.reading import read_proto
from towline.optimize.training.rounding import RoundedActivation, round_as, stop_rounding
from towline.optimize.training.writing import write_trained


def stepped(net: Trainable, rows: list[torch.Tensor], made: dict[str, RoundedActivation]) -> None:
    """As a training changes it: a step for every weight, and ranges that are a little wider or narrower."""
    torch.manual_seed(0)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3)
    net(*rows).square().mean().backward()
    assert all(one.log_scale.grad is not None for one in made.values())
    optimizer.step()
    with torch.no_grad():
        for one in made.values():
            one.log_scale += 0.1 * torch.randn(())


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for made in sorted(path for path in folder.iterdir() if path.is_dir()):
        given = np.load(made / "rows.npz")
        quantized = onnx.load(made / "model.onnx")
        net = trainable(made / FLOATS, "y")
        rows = [torch.from_numpy(given[name]) for name in net.inputs]
        pairs = read_pairs(quantized)
        roundings = round_as(net, read_proto(made / FLOATS), pairs, learn=True)
        with torch.no_grad():
            first = net.tensors(rows, ["y"])["y"].numpy()
        stepped(net, rows, roundings)
        with torch.no_grad():
            second = net.tensors(rows, ["y"])["y"].numpy()
        scales = {name: one.scale for name, one in roundings.items()}
        stop_rounding(net, pairs)
        with torch.no_grad():
            floats = net.tensors(rows, ["y"])["y"].numpy()
        np.savez(made / "answers.npz", first=first, second=second, floats=floats)
        (made / "stepped").mkdir()
        rewrite(quantized, onnx.load(write_trained(net, made / FLOATS, made / "stepped")), scales)
        onnx.save(quantized, made / "stepped.onnx")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
