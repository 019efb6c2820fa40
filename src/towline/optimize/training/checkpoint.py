"""Where a training stands, on disk: written whole or not at all, and taken up only by the very same training."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from towline.optimize.rows import Rows

FILE = "checkpoint"
_DIGEST_BYTES = 32
# So many rows, evenly spaced, tell arrays apart; of the truth all are read.
_ROWS_READ = 2048


def identity(learning: nn.Module, rows: Rows, words: tuple[object, ...]) -> bytes:
    """What tells one training from another: its settings and losses (`words`), the weights it starts from, its rows."""
    told = hashlib.blake2b(repr((torch.__version__, *words, rows.output, rows.held_back)).encode(), digest_size=_DIGEST_BYTES)
    for name, tensor in learning.state_dict().items():
        told.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        told.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for name, array in (*rows.inputs.items(), *rows.answers.items(), ("truth", rows.truth)):
        if array is None:
            continue
        read = len(array) if name == "truth" else min(len(array), _ROWS_READ)
        told.update(f"{name} {array.dtype} {array.shape}".encode())
        told.update(np.ascontiguousarray(array[np.linspace(0, len(array) - 1, read).astype(np.int64)]).data)
    return told.digest()


def write_checkpoint(folder: Path, whose: bytes, state: dict[str, Any]) -> None:
    """Tensors and plain values only. A kill or a power cut leaves the one before."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{FILE}.part"
    with beside.open("wb") as file:
        file.write(_seal(whose, buffer.getbuffer()))
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, folder / FILE)


def read_checkpoint(folder: Path, whose: bytes) -> dict[str, Any] | None:
    """What was written last; None when nothing was, or for another training, or when it was damaged."""
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    state = memoryview(content)[_DIGEST_BYTES:]
    if content[:_DIGEST_BYTES] != _seal(whose, state):
        return None
    # Sealed by us or not: what is read is tensors, never objects.
    return dict(torch.load(io.BytesIO(state), weights_only=True, map_location="cpu"))


def _seal(whose: bytes, state: memoryview) -> bytes:
    return hashlib.blake2b(state, key=whose, digest_size=_DIGEST_BYTES).digest()
