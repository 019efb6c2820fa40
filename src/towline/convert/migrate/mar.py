"""Read a TorchServe archive (.mar): its manifest, which of the stock handlers it names, and what that is here."""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from towline.convert.archives import extract_archive, read_archive
from towline.convert.labels import MAX_LABELS_BYTES, encode_labels
from towline.convert.migrate.plan import bad
from towline.core.errors import UsageError
from towline.core.plain_file import read_plain_file
from towline.core.refs import clip

MANIFEST = "MAR-INF/MANIFEST.json"
LABELS = "index_to_name.json"
_LABELS_FILE = "towline-labels.txt"
_MAX_SMALL_BYTES = MAX_LABELS_BYTES
_MAX_CODE_BYTES = 1 << 20
_BARE = "base_handler"
# The one that answers with the names of index_to_name.json.
_CLASSIFIER = "image_classifier"
# A handler that is only the graph, with declared processing around it or none: the preset that does the same.
_PRESETS = {_CLASSIFIER: "imagenet", "image_segmenter": "segmentation", _BARE: ""}
# The other stock handlers, and what stands in their place.
_STOCK = {
    "object_detector": "Boxes above a threshold are no declared step: write a handler that does what object_detector did.",
    "text_classifier": "Its vocabulary is a pickle, and it cuts words in its own way: write a handler that does what text_classifier did.",
    "vision_handler": "It only prepares pictures: import the model with --preset imagenet, or write a handler.",
    "text_handler": "It only prepares text: write a handler.",
    "dali_image_classifier": "Import the model with --preset imagenet, whose steps run on the CPU.",
}
_BARE_NOTE = "base_handler: tensors come by the KServe routes, /v1/models and /v2/models, as they did through a service_envelope"
_CUSTOM = "Make it a class with setup(), decode(), predict() and encode(), and serve it: towline serve handler.py:Class (how-to 'handler')."


@dataclass(frozen=True)
class Mar:
    """What an archive says of itself. `old_version` is any text, mostly 1.0; `model_file` the code of an eager model; `has_labels`: it has
    names for classes, and answers with them.
    """

    path: Path
    name: str
    old_version: str
    handler: str
    serialized_file: str
    model_file: str
    has_labels: bool
    notes: tuple[str, ...]

    @property
    def preset(self) -> str:
        return _PRESETS.get(self.handler, "")

    def refusal(self) -> tuple[str, str] | None:
        """Why it is not imported, and what to do; None when it is."""
        if self.handler in _STOCK:
            return f"Its handler '{self.handler}' has no counterpart here.", _STOCK[self.handler]
        if self.handler not in _PRESETS:
            return f"Its handler '{clip(self.handler)}' is code of its own.", _CUSTOM
        if not self.serialized_file:
            return "It holds no serialized model.", _CUSTOM
        return None


def read_mar(path: Path) -> Mar:
    """Raises UsageError and ImportRefused for what is no archive of TorchServe's, or a hostile one."""
    if path.is_dir():
        raw = read_plain_file(path / MANIFEST, _MAX_SMALL_BYTES, lambda why: bad(f"{path.name}/{MANIFEST}: {why}."))
        has_labels = (path / LABELS).is_file()
    else:
        with tempfile.TemporaryDirectory(prefix="towline-migrate-") as scratch:
            found = read_archive(path, (MANIFEST, LABELS), Path(scratch), max_bytes=_MAX_SMALL_BYTES)
        manifest = found[MANIFEST]
        if manifest is None:
            raise bad(f"{path.name} holds no {MANIFEST}.", "It is no archive of torch-model-archiver's.")
        raw, has_labels = manifest, found[LABELS] is not None
    return _mar(path, _object(raw, f"{path.name}: {MANIFEST}"), has_labels=has_labels)


def unpack(path: Path, inside: str, given: Mapping[str, str], into: Path) -> tuple[Path, dict[str, str]]:
    """The model's file, unpacked into the empty folder `into`, and `given` with the paths that lie there.

    Raises ImportRefused for a hostile archive, UsageError for code without one class, and labels that are none.
    """
    folder = path
    if path.is_file():
        folder = into / "mar"
        folder.mkdir()
        extract_archive(path, folder)
        if not (folder / MANIFEST).is_file():
            folder = next((inner.parents[1] for inner in folder.glob(f"*/{MANIFEST}")), folder)
    words = dict(given)
    if "labels" in words:
        words["labels"] = str(_labels(folder / words["labels"], into / _LABELS_FILE))
    if "arch" in words:
        code = folder / words["arch"]
        words["arch"] = f"{code}:{_only_class(code)}"
    return folder / inside, words


def _mar(path: Path, manifest: Mapping[str, Any], *, has_labels: bool) -> Mar:
    model = manifest.get("model")
    if not isinstance(model, dict):
        raise bad(f"{path.name}: {MANIFEST} tells no model.", "It is no archive of torch-model-archiver's.")

    def text(name: str) -> str:
        value = model.get(name, "")
        if not isinstance(value, str):
            raise bad(f"{path.name}: '{name}' of {MANIFEST} is no text.")
        return value

    def file(name: str) -> str:
        value = text(name)
        if value and (PurePosixPath(value).is_absolute() or ".." in value.split("/") or "\\" in value):
            raise bad(f"{path.name}: '{name}' of {MANIFEST} names a place outside the archive: {clip(value)!r}.")
        return value

    handler = re.sub(r"\.py$", "", file("handler").partition(":")[0])
    notes = [_BARE_NOTE] if handler == _BARE else []
    if text("requirementsFile"):
        notes.append("requirementsFile: nothing is installed for a model; the environment of its framework has what it needs")
    if text("configFile"):
        notes.append("configFile: its batching and workers have no meaning here; a handler reads files of its own")
    has_labels = has_labels and handler == _CLASSIFIER
    return Mar(path, text("modelName"), text("modelVersion"), handler, file("serializedFile"), file("modelFile"), has_labels, tuple(notes))


def _object(raw: bytes, label: str) -> dict[str, Any]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad(f"{label} is no JSON.") from None
    if not isinstance(found, dict):
        raise bad(f"{label} is no JSON object.")
    return found


def _labels(source: Path, target: Path) -> Path:
    """TorchServe's `{"0": "tench"}` or `{"0": ["n01440764", "tench"]}` as one label per line."""
    raw = read_plain_file(source, _MAX_SMALL_BYTES, lambda why: bad(f"{LABELS}: {why}."))
    found = _object(raw, LABELS)
    names = found.get("object_type_names")
    if isinstance(names, list):
        found = {str(place): name for place, name in enumerate(names)}
    labels = {key: value[-1] if isinstance(value, list) and value else value for key, value in found.items()}
    if sorted(labels) != sorted(map(str, range(len(labels)))) or not all(isinstance(label, str) for label in labels.values()):
        raise bad(
            f"{LABELS} does not name the classes 0 to {max(len(labels) - 1, 0)}, each by a text.", "Write each class of the output once."
        )
    target.write_bytes(encode_labels(tuple(" ".join(labels[str(place)].split()) for place in range(len(labels)))))
    return target


def _only_class(code: Path) -> str:
    """The one class that the file of an eager model defines, as TorchServe finds it; told without running it."""
    raw = read_plain_file(code, _MAX_CODE_BYTES, lambda why: bad(f"{code.name}: {why}."))
    try:
        classes = [node.name for node in ast.parse(raw).body if isinstance(node, ast.ClassDef)]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise bad(f"{code.name} is no Python.") from None
    if len(classes) != 1:
        names = ", ".join(classes[:5]) or "none"
        raise UsageError(
            f"{code.name} must define one class, the model's; it has {names}.",
            code="BAD_MIGRATION_SOURCE",
            hint="Import it by hand: towline import WEIGHTS --arch FILE.py:CLASS",
        )
    return classes[0]
