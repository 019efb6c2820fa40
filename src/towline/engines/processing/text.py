"""UTF-8 text -> token ids, by a tokenizer.json of Hugging Face's `tokenizers`. Imported only in a worker whose version declares it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# One text at a time; a pool of threads per worker would take the cores that other runs need.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Tokenizer

from towline.core import steps
from towline.core.errors import Kind, VersionError
from towline.core.steps import Chain
from towline.engines.processing.errors import bad_row


class TextReader:
    """Reads one chain: rows of text to ids, mask and token types, each for the graph's input of that name."""

    def __init__(self, chain: Chain, dtypes: Mapping[str, np.dtype], folder: Path) -> None:
        assert isinstance(chain.source, steps.Text)
        self._source = source = chain.source
        self._tokenizer = _loaded(folder / source.tokenizer)
        self._tokenizer.enable_truncation(source.max_length)
        padding = self._tokenizer.padding or {}
        self._tokenizer.no_padding()
        self._pads = {"ids": int(padding.get("pad_id", _pad_id(self._tokenizer))), "attention_mask": 0}
        self._pads["type_ids"] = int(padding.get("pad_type_id", 0))
        self._left = padding.get("direction") == "left"
        self._fed = [
            (into, part, dtypes[into])
            for into, part in ((source.ids, "ids"), (source.mask, "attention_mask"), (source.types, "type_ids"))
            if into
        ]

    def read(self, inputs: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
        encoded = [self._encode(raw, row) for row, raw in enumerate(inputs[self._source.name])]
        lengths = self._lengths([len(one.ids) for one in encoded])
        found: dict[str, list[np.ndarray]] = {}
        for into, part, dtype in self._fed:
            found[into] = [self._padded(getattr(one, part), length, part, dtype) for one, length in zip(encoded, lengths, strict=True)]
        return found

    def _encode(self, raw: bytes, row: int) -> Any:
        source = self._source
        if len(raw) > source.max_bytes:
            what = f"has {len(raw)} bytes; at most {source.max_bytes} are taken."
            raise bad_row("TEXT_TOO_LONG", source.name, row, what, hint="Send it in parts.", kind=Kind.TOO_LARGE)
        try:
            text = bytes(raw).decode("utf-8")
        except UnicodeDecodeError as error:
            raise bad_row("BAD_TEXT", source.name, row, f"is not UTF-8 text: byte {error.start} is not.") from None
        found = self._tokenizer.encode(text)
        if not found.ids:
            raise bad_row("BAD_TEXT", source.name, row, "holds no token.", hint="Send at least one word.")
        return found

    def _lengths(self, own: list[int]) -> list[int]:
        """To how many tokens each row is padded."""
        source = self._source
        if source.padding == "max_length":
            return [source.max_length] * len(own)
        step = max(source.pad_to_multiple_of, 1)
        whole = [min(-(-length // step) * step, max(source.max_length, length)) for length in own]
        return [max(whole)] * len(whole) if source.padding == "longest" else whole

    def _padded(self, values: list[int], length: int, part: str, dtype: np.dtype) -> np.ndarray:
        row = np.full(length, self._pads[part], dtype)
        row[slice(length - len(values), None) if self._left else slice(len(values))] = values
        return row


def _loaded(path: Path) -> Any:
    try:
        return Tokenizer.from_str(path.read_text("utf-8"))
    except Exception as error:
        # The library raises plain Exception for whatever it cannot read.
        said = " ".join(str(error).split())[:200]
        raise VersionError(
            f"The tokenizer cannot be loaded: {said}", code="BAD_TOKENIZER", hint="Save it again as tokenizer.json."
        ) from error


def _pad_id(tokenizer: Any) -> int:
    return next((found for word in ("[PAD]", "<pad>", "<|endoftext|>") if (found := tokenizer.token_to_id(word)) is not None), 0)
