"""Bytes as torch.save writes them, made without torch: names of classes that are not there are fine, nothing here runs them."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path


def state_dict(shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The pickle of a state_dict, of protocol 2 as torch.save writes it."""
    items = b"".join(text(name) + tensor(shape) for name, shape in shapes.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def checkpoint(shapes: Mapping[str, tuple[int, ...]], *beside: bytes, key: str = "state_dict") -> bytes:
    """A dict with the weights under `key`, and further pickled keys and values."""
    return b"\x80\x02}(" + text(key) + state_dict(shapes)[2:-1] + b"".join(beside) + b"u."


def tensor(shape: tuple[int, ...]) -> bytes:
    """A call of torch._utils._rebuild_tensor_v2 with a storage that lies elsewhere in the file."""
    sizes = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in shape) + b"t"
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x01tQ"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + sizes + sizes + b"\x89ccollections\nOrderedDict\n)RtR"


def text(words: str) -> bytes:
    return b"X" + struct.pack("<I", len(words.encode())) + words.encode()


def zipped(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3")
    return path


def old(path: Path, pickled: bytes) -> Path:
    """The format before PyTorch 1.6: a magic number, a version and facts of the machine come first, each pickled."""
    preface = b"".join(pickle.dumps(one, protocol=2) for one in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
    path.write_bytes(preface + pickled + pickle.dumps(["0"], protocol=2))
    return path


def reducing(module: str, name: str, *words: str) -> bytes:
    """A pickle that calls MODULE.NAME(*words) when it is loaded."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(text, words)) + b"tR."


def stream(pickled: bytes) -> io.BytesIO:
    return io.BytesIO(pickled)
