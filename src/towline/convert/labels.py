"""Read a labels file: one label per line, or a JSON list of strings."""

from __future__ import annotations

import json
from pathlib import Path

from towline.convert import wording
from towline.core.errors import ImportRefused
from towline.core.plain_file import read_plain_file

MAX_LABELS_BYTES = 16 << 20
MAX_LABEL_CHARS = 1024


def read_labels(path: Path) -> tuple[str, ...]:
    """The labels in order: line number, or place in the list, is the class. Raises ImportRefused naming the line."""
    raw = read_plain_file(path, MAX_LABELS_BYTES, _refused)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(f"byte {error.start} is not UTF-8 text") from None
    labels = _from_json(text) if text.lstrip().startswith("[") else text.splitlines()
    if not labels:
        raise _refused("it is empty")
    for number, label in enumerate(labels, 1):
        if not label.isprintable() or len(label) > MAX_LABEL_CHARS:
            raise _refused(
                f"label {number}, {wording.name(label)}, holds control characters or is longer than {MAX_LABEL_CHARS} characters"
            )
    return tuple(labels)


def encode_labels(labels: tuple[str, ...]) -> bytes:
    """One label per line: the form in which versions keep them."""
    return "".join(f"{label}\n" for label in labels).encode()


def _from_json(text: str) -> list[str]:
    try:
        labels = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"it is no JSON list: {wording.sentence(str(error))}") from None
    if not all(isinstance(label, str) for label in labels):
        raise _refused("its JSON list holds something else than strings")
    return [str(label) for label in labels]


def _refused(what: str) -> ImportRefused:
    return ImportRefused(
        f"The labels file cannot be used: {what}.",
        code="BAD_LABELS",
        field="labels",
        hint='Write one label per line, or a JSON list: ["cat", "dog"].',
    )
