"""Say what a file that is no ONNX model is, from its first bytes, and what to do with it. Nothing is ever unpickled."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

# How much of a file `identify` wants to see.
HEAD_BYTES = 64 << 10
_MAX_MEMBERS = 10_000
_PICKLE_BYTES = 256


@dataclass(frozen=True)
class Foreign:
    """`what` follows "is": "an HTML page, not a model". `hint` is the next step."""

    code: str
    what: str
    hint: str


_DOWNLOAD = "Download the file again; the link probably answered with an error or a log-in page."
# Read only where nothing is converted, such as in what a client sent: elsewhere these are the business of convert/recognise.py.
CONVERTED = "Only ONNX is taken here. On the machine of the store, this converts it and proves it equal: towline import FILE"
_WEIGHTS = f"{CONVERTED} --arch model.py:Net, where Net is the model's class."
_UNPACK = "Unpack it, and import the model inside."


def head_of(file: BinaryIO) -> bytes:
    """What `identify` is to look at: the first bytes; of a zip the names of all its members too, which may lie behind megabytes of weights,
    and how the pickle of a PyTorch file begins."""
    head = file.read(HEAD_BYTES)
    if not head.startswith(b"PK\x03\x04"):
        return head
    # Here, as few models are one: with what it imports it would cost every start of a server 4 ms.
    import zipfile

    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()[:_MAX_MEMBERS]
            pickled = next((name for name in names if name.endswith("/data.pkl")), "")
            begins = archive.open(pickled).read(_PICKLE_BYTES) if pickled else b""
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError, zlib.error):
        return head
    return b"\n".join(
        [head[:4], *(name.encode("utf-8", "replace") for name in names if name != pickled), pickled.encode("utf-8", "replace") + begins]
    )


def identify(head: bytes, size_bytes: int) -> Foreign | None:
    """What the file is instead of an ONNX model, or None when it may be one. `head` is what `head_of` gives of it."""
    if size_bytes == 0:
        return Foreign("EMPTY_FILE", "empty", "Copy or export the model again.")
    for matches, foreign in _SIGNS:
        if matches(head):
            return foreign
    if not head.strip(b"\0"):
        return Foreign("ZERO_BYTES", "nothing but zero bytes: a download that was reserved but never filled", "Download or copy it again.")
    return _text(head)


def _text(head: bytes) -> Foreign | None:
    """JSON and other text. A protobuf of any size holds control characters within its first bytes."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # The cut at HEAD_BYTES may fall inside a character.
        if error.start < len(head) - 3 or len(head) < HEAD_BYTES:
            return None
        text = head[: error.start].decode("utf-8-sig")
    if not all(char.isprintable() or char in "\r\n\t" for char in text):
        return None
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return Foreign("JSON_TEXT", "JSON text, not a model", "Import the .onnx file; settings and tokenizers stay beside it.")
    if text.lstrip().startswith(("ir_version:", "<ir_version", "< ir_version")):
        return Foreign(
            "ONNX_TEXT", "an ONNX model written as text", "Save it as a binary: onnx.save(onnx.load(FILE, 'textproto'), 'model.onnx')."
        )
    return Foreign("PLAIN_TEXT", "plain text, not a model", "Check the path: an ONNX model is a binary file, mostly called .onnx.")


def _starts(*prefixes: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(prefixes)


def _at(offset: int, mark: bytes) -> Callable[[bytes], bool]:
    return lambda head: head[offset : offset + len(mark)] == mark


def _zip_with(*marks: bytes) -> Callable[[bytes], bool]:
    return lambda head: head.startswith(b"PK\x03\x04") and any(mark in head for mark in marks)


def _is_html(head: bytes) -> bool:
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head", b"<body", b"<!--"))


def _is_state_dict(head: bytes) -> bool:
    """A PyTorch zip whose pickle begins with a dict, not with the class of a module."""
    if not _zip_with(b"/data.pkl")(head):
        return False
    start = head.find(b"\x80", head.find(b"/data.pkl"))
    pickled = head[start : start + 64]
    return start > 0 and (pickled[2:3] == b"}" or b"ccollections\nOrderedDict" in pickled)


def _is_pickle(head: bytes) -> bool:
    return len(head) > 2 and head[0] == 0x80 and head[1] in (2, 3, 4, 5)


def _is_compressed_pickle(head: bytes) -> bool:
    """As joblib writes them. Only the first bytes are unpacked, however many the rest would make."""
    for start, unpacker in _UNPACKERS:
        if head.startswith(start):
            try:
                return _is_pickle(unpacker().decompress(head, 64))
            except (zlib.error, lzma.LZMAError, OSError, EOFError):
                return False
    return False


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 9 and head[8:10] in (b'{"', b"{}", b"{ ") and int.from_bytes(head[:8], "little") < 100 << 20


def _is_tensorflow_graph(head: bytes) -> bool:
    return head[:1] == b"\x0a" and (b"\x12\x0bPlaceholder" in head or b"\x12\x05Const" in head)


_ARCHIVES = (b"\x1f\x8b", b"PK\x03\x04", b"PK\x05\x06", b"7z\xbc\xaf\x27\x1c", b"\xfd7zXZ\0", b"BZh", b"\x28\xb5\x2f\xfd", b"Rar!\x1a\x07")

# zlib finds out itself whether it is given its own form or gzip's.
_UNPACKERS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"x", lambda: zlib.decompressobj(47)),
    (b"\x1f\x8b", lambda: zlib.decompressobj(47)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ\0", lzma.LZMADecompressor),
    (b"]\0", lzma.LZMADecompressor),
)

# The first match wins, so the special stands before the general.
_SIGNS: tuple[tuple[Callable[[bytes], bool], Foreign], ...] = (
    (_is_html, Foreign("HTML_PAGE", "an HTML page, not a model", _DOWNLOAD)),
    (
        _starts(b"version https://git-lfs.github.com/spec/"),
        Foreign("LFS_POINTER", "a Git LFS pointer, not the model itself", "Fetch the real file: git lfs pull"),
    ),
    (_at(4, b"TFL3"), Foreign("TFLITE_MODEL", "a TensorFlow Lite model", CONVERTED)),
    (_at(4, b"ORTM"), Foreign("ORT_MODEL", "a model in ONNX Runtime's own .ort format", "Import the .onnx file it was made from.")),
    (_starts(b"\x89HDF\r\n\x1a\n"), Foreign("HDF5_FILE", "an HDF5 file, as Keras writes (.h5)", CONVERTED)),
    (_starts(b"GGUF"), Foreign("GGUF_MODEL", "a GGUF model, made for llama.cpp", "Import the ONNX export of the same model.")),
    (_is_safetensors, Foreign("SAFETENSORS_WEIGHTS", "safetensors: weights only, without the model's code", _WEIGHTS)),
    (_zip_with(b"/constants.pkl", b"/code/__torch__"), Foreign("TORCHSCRIPT_MODEL", "a TorchScript model", CONVERTED)),
    (_zip_with(b"archive_format", b"models/model.json"), Foreign("TORCH_EXPORT", "a program saved by torch.export (.pt2)", CONVERTED)),
    (_is_state_dict, Foreign("STATE_DICT", "a PyTorch state_dict: weights only, without the model's code", _WEIGHTS)),
    (_zip_with(b"/data.pkl"), Foreign("TORCH_PICKLE", "a pickled PyTorch model, which runs code when it is read", _WEIGHTS)),
    (_zip_with(b"model.weights.h5"), Foreign("KERAS_MODEL", "a Keras model (.keras)", CONVERTED)),
    (
        _zip_with(b".npy"),
        Foreign("NUMPY_FILE", "a NumPy archive, not a model", "Give it as --sample beside the model if it holds example inputs."),
    ),
    (
        _starts(b"\x93NUMPY"),
        Foreign("NUMPY_FILE", "a NumPy array, not a model", "Give it as --sample beside the model if it holds example inputs."),
    ),
    (_starts(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."), Foreign("STATE_DICT", "an old PyTorch checkpoint (a pickle)", _WEIGHTS)),
    (lambda head: _is_pickle(head) and b"sklearn" in head, Foreign("SKLEARN_PICKLE", "a pickled scikit-learn model", CONVERTED)),
    (_is_pickle, Foreign("PICKLE", "a Python pickle, which runs code when it is read", CONVERTED)),
    (
        _is_compressed_pickle,
        Foreign("COMPRESSED_PICKLE", "a compressed Python pickle, as joblib writes, which runs code when it is read", CONVERTED),
    ),
    (_starts(b"tree\nversion=", b"tree\r\nversion="), Foreign("LIGHTGBM_MODEL", "a LightGBM model, as text", CONVERTED)),
    (_starts(b"\x08\x01\x12"), Foreign("SAVED_MODEL", "the saved_model.pb of a TensorFlow SavedModel", CONVERTED)),
    (_is_tensorflow_graph, Foreign("TENSORFLOW_GRAPH", "a frozen TensorFlow graph", CONVERTED)),
    (_starts(*_ARCHIVES), Foreign("ARCHIVE", "an archive, not a model", _UNPACK)),
    (_at(257, b"ustar"), Foreign("ARCHIVE", "a tar archive, not a model", _UNPACK)),
    (_starts(b"<?xml"), Foreign("XML_TEXT", "XML, as OpenVINO writes, not a model we run", "Import the .onnx file it was made from.")),
    (
        _starts(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"%PDF", b"RIFF"),
        Foreign("MEDIA_FILE", "a picture or document, not a model", "Check the path."),
    ),
    (_starts(b"\x7fELF", b"MZ", b"#!"), Foreign("PROGRAM", "a program, not a model", "Check the path.")),
)
