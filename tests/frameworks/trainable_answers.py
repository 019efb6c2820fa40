"""For each graph of a folder: what the PyTorch module made of it answers, and the graph written back. Runs in the environment `torch`."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import numpy as np
import torch

from towline.optimize.training.graph import Trainable, trainable
from towline.optimize.training.writing import write_trained


def answered(net: Trainable, rows: list[torch.Tensor]) -> dict[str, np.ndarray]:
    with torch.no_grad():
        logits = net(*rows)
        inner = net.tensors(rows, [net.output, net.logits])
        copied = copy.deepcopy(net)(*rows)
    assert torch.equal(copied, logits)
    return {"logits": logits.numpy(), "y": inner[net.output].numpy(), "inner logits": inner[net.logits].numpy()}


def inner_of(net: Trainable, rows: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Every tensor that a node makes."""
    with torch.no_grad():
        return {
            name: value.numpy() for name, value in net.tensors(rows, [name for node in net.nodes for name in node.outputs if name]).items()
        }


def stepped(net: Trainable, rows: list[torch.Tensor]) -> Trainable:
    """After one step of training that changes every weight."""
    torch.manual_seed(0)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), 0.05)
    net(*rows).square().mean().backward()
    optimizer.step()
    return net.eval()


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for model in sorted(folder.glob("*.onnx")):
        made = folder / model.stem
        given = np.load(made.with_suffix(".npz"))
        net = trainable(model, "y")
        rows = [torch.from_numpy(given[name]) for name in net.inputs]
        made.mkdir()
        np.savez(made / "inner.npz", **(inner_of(net, rows) if model.stem.startswith("every") else {}))
        for what in ("same", "stepped"):
            (made / what).mkdir(parents=True)
            stepped(net, rows) if what == "stepped" else None
            np.savez(made / what / "answers.npz", **answered(net, rows))
            write_trained(net, model, made / what)
        layers = {name: type(layer).__name__ for name, layer in net.layers.items()}
        about = {"activation": net.activation, "layers": layers, "weights": sum(one.numel() for one in net.parameters())}
        (made / "about.json").write_text(json.dumps({**about, "held": sorted(net.held)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
