"""Read the input that somebody asks with from a file or from stdin: .npz, .npy or JSON."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from towline.app.sources import check_file
from towline.core.errors import UsageError
from towline.core.plain_file import read_plain_file
from towline.verify.array_files import HINT, read_arrays

MAX_INPUT_BYTES = 1 << 30


def read_inputs(source: str) -> Any:
    """An array or nested list, or a dict of them by name. `-` reads stdin. Raises UsageError."""
    refused = partial(_refused, "stdin" if source == "-" else source)
    if source == "-":
        raw = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        if len(raw) > MAX_INPUT_BYTES:
            raise refused(f"it has more than {MAX_INPUT_BYTES} bytes")
    else:
        check_file(Path(source), "an input file")
        raw = read_plain_file(Path(source), MAX_INPUT_BYTES, refused)
    return read_arrays(raw, refused, max_bytes=MAX_INPUT_BYTES)


def _refused(name: str, what: str) -> UsageError:
    return UsageError(f"{name} cannot be read as an input: {what}.", code="BAD_SAMPLE", field="input", hint=HINT)
