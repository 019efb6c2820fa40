"""Small pictures and their headers, made of bytes, and a plane whose models read files: what their processing would is done in a line."""

from __future__ import annotations

import struct
import zlib

import msgspec
import numpy as np
from plane import HonestPlane, OneVersion, version

from towline.core.inference import Request, Response
from towline.core.manifest import Processing, Signature, Step, TensorSpec
from towline.testing import tiny_models


def png(width: int = 2, height: int = 2, *, level: int = 128) -> bytes:
    """A grey picture, whole and correct as long as it is small; larger ones are only a header."""
    rows = b"".join(b"\0" + bytes([level]) * width for _ in range(height)) if width * height <= 10_000 else b""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def jpeg(width: int = 2, height: int = 2, *, preamble: int = 10) -> bytes:
    """As far as the frame header, behind `preamble` bytes of application data."""
    segments = b""
    while preamble > 0:
        size = min(preamble, 65_000)
        segments += b"\xff\xe1" + struct.pack(">H", size + 2) + bytes(size)
        preamble -= size
    return b"\xff\xd8" + segments + b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9) + b"\xff\xd9"


def gif(width: int = 2, height: int = 2) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(20)


def bmp(width: int = 2, height: int = 2) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(30)


def webp(width: int = 2, height: int = 2) -> bytes:
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 4 + len(extended)) + b"WEBP" + extended


def wav(samples: int = 8) -> bytes:
    head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16_000, 2, 16) + b"data" + struct.pack("<I", 2 * samples)
    return b"RIFF" + struct.pack("<I", len(head) + 2 * samples) + head + bytes(2 * samples)


OUTPUTS = (TensorSpec("label", "string", ("N", 2)), TensorSpec("score", "float32", ("N", 2)), TensorSpec("index", "int64", ("N", 2)))


def reader(kind: str, *, name: str = "", labels: tuple[str, ...] = ()) -> OneVersion:
    """A version as an import with processing makes it: one string input of `kind`; out come its two best classes, short or long first."""
    spec = TensorSpec(kind, "string", ("N",))
    return _declaring(name or kind, (Step(kind, {"name": kind}),), Signature((spec,), OUTPUTS), labels)


def table(*columns: TensorSpec) -> OneVersion:
    """A version that reads named columns, each [N]."""
    step = Step("tabular", {"columns": [spec.name for spec in columns]})
    return _declaring("table", (step,), Signature(columns, OUTPUTS), ())


def _declaring(name: str, before: tuple[Step, ...], signature: Signature, labels: tuple[str, ...]) -> OneVersion:
    bare = version(name, tiny_models.identity(), labels=labels)
    processing = Processing(before=before, after=(Step("softmax"), Step("top_k"), Step("labels")))
    bare.manifest = msgspec.structs.replace(bare.manifest, signatures={"serving_default": signature}, processing=processing)
    return bare


class ReadingPlane(HonestPlane):
    """Classes everything as `short` or `long` by the length of its first input; numbers by the bytes they take."""

    def _run(self, served: OneVersion, request: Request) -> Response:
        if not served.manifest.processing.before:
            return super()._run(served, request)
        first = next(iter(request.inputs.values())).reshape(-1)
        is_long = np.array([len(element) > 100 if isinstance(element, bytes) else element > 100 for element in first])
        index = np.stack([is_long, ~is_long], axis=1).astype(np.int64)
        label = np.array([b"short", b"long"], dtype=object)[index]
        score = np.broadcast_to(np.array([0.75, 0.25], np.float32), index.shape)
        return Response({"label": label, "score": score, "index": index}, served.name, served.number)
