"""Run by the environment 'torch': `python torch_sources.py FOLDER` writes what training code leaves behind, one file per way of saving."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
import zipfile
from pathlib import Path

import torch
import torch_nets as nets
from safetensors.torch import save_file


def made(name: str) -> torch.nn.Module:
    """The network with weights that depend on its name alone, and statistics of batch norm unlike those it begins with."""
    torch.manual_seed(sum(name.encode()))
    model = getattr(nets, name)()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def write(folder: Path) -> None:
    mlp, cnn, encoder = made("Mlp"), made("Cnn"), made("Encoder")
    weights = mlp.state_dict()
    for name in ("Mlp", "Cnn", "Encoder", "Recurrent", "Remembering", "Noisy", "Spectrum", "Gamma", "Branching", "Worded"):
        torch.save(made(name).state_dict(), folder / f"{name.lower()}.pth")
    save_file(weights, folder / "mlp.safetensors")
    save_file({name: value.half() for name, value in weights.items()}, folder / "half.safetensors")
    wrapped = {f"module.{name}": value for name, value in weights.items()}
    torch.save(
        {"epoch": 3, "state_dict": wrapped, "optimizer": {"lr": 0.1}, "arguments": argparse.Namespace(width=16)}, folder / "wrapped.pth"
    )
    torch.save(weights, folder / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({name: value for name, value in weights.items() if "3" not in name}, folder / "lacking.pth")
    torch.save(cnn, folder / "module.pt")
    torch.save(mlp.layers.eval(), folder / "layers.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(cnn), folder / "script.pt")
        torch.jit.save(torch.jit.trace(mlp, torch.zeros(2, 10)), folder / "traced.pt")
        torch.jit.save(torch.jit.freeze(torch.jit.script(mlp)), folder / "frozen.pt")
        torch.jit.save(torch.jit.script(made("Branching")), folder / "branching.pt")
    rows, length = torch.export.Dim("rows"), torch.export.Dim("length")
    ids = torch.randint(0, 50, (2, 7))
    torch.export.save(torch.export.export(encoder, (ids,), dynamic_shapes=({0: rows, 1: length},)), folder / "encoder.pt2")
    torch.export.save(torch.export.export(made("Gamma"), (torch.zeros(2, 6),), dynamic_shapes=({0: rows},)), folder / "gamma.pt2")
    for whole, torn in (("script.pt", "torn-script.pt"), ("encoder.pt2", "torn-program.pt2")):
        (folder / torn).write_bytes((folder / whole).read_bytes()[:-2000])
    torch.save({"layers.0.weight": torch.zeros(16, 10), "trap": Trap(f"touch {folder / 'canary'}")}, folder / "hostile.pth")
    torch.save(Trap(f"touch {folder / 'canary'}"), folder / "hostile.pt")
    with zipfile.ZipFile(folder / "encoder.pt2") as whole, zipfile.ZipFile(folder / "evil.pt2", "w") as evil:
        for entry in whole.namelist():
            evil.writestr(entry, pickled(folder) if "sample_inputs" in entry else whole.read(entry))


def pickled(folder: Path) -> bytes:
    """What stands where a program keeps its sample inputs, which PyTorch's own loader unpickles."""
    buffer = io.BytesIO()
    torch.save(((Trap(f"touch {folder / 'canary'}"),), {}), buffer)
    return buffer.getvalue()


class Trap:
    """Unpickled, it runs a command."""

    def __init__(self, words: str) -> None:
        self._words = words

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self._words,)


if __name__ == "__main__":
    torch.backends.mha.set_fastpath_enabled(False)
    write(Path(sys.argv[1]))
