"""Which value of a plain prediction's JSON is meant for which input, in the forms that hand-written services have taken. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from towline.core.errors import InvalidRequest
from towline.core.manifest import Signature, TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import check, exact, media

# The key whose answer is `{"output": …}`; the answer to every other is the general one.
INPUT = "input"
KEYS = (INPUT, "inputs", "instances", "data")
# Beside those, for a model that reads files or text.
FILE_KEYS = ("file", "files", "image", "images", "image_data", "audio", "audio_data", "text", "texts")
_ENCODED_KEYS = ("image_data", "audio_data")
_ENCODED_KINDS = (media.IMAGE, media.AUDIO)
# What a browser's canvas gives.
_DATA_URL = re.compile(r"data:[A-Za-z0-9.+-]{1,64}/[A-Za-z0-9.+-]{1,64};base64,")


def pick(document: Any, signature: Signature, kinds: Mapping[str, str]) -> tuple[str, list[tuple[str, Any]]]:
    """The key that was used, and for each input the path of its value in the body and the value."""
    specs = signature.inputs
    if not isinstance(document, dict):
        raise InvalidRequest('The body must be an object with the key "input".', code="MISSING_INPUT", field=INPUT)
    if len(specs) > 1 and all(spec.name in document for spec in specs):
        return "", [(clip(spec.name), _prepared(document[spec.name], spec, kinds)) for spec in specs]
    key = _key(document, specs)
    value = document[key]
    if len(specs) > 1:
        return key, [
            (field, _prepared(value, spec, kinds)) for (field, value), spec in zip(_named(value, signature, key), specs, strict=True)
        ]
    return key, [(clip(key), _encoded(value) if key in _ENCODED_KEYS else _prepared(value, specs[0], kinds))]


def _key(document: Mapping[str, Any], specs: Sequence[TensorSpec]) -> str:
    known: tuple[str, ...] = KEYS
    if len(specs) == 1:
        known += (specs[0].name, *FILE_KEYS) if specs[0].dtype == "string" else (specs[0].name,)
    found = [key for key in dict.fromkeys(known) if key in document]
    if not found:
        raise InvalidRequest('The body must be an object with the key "input".', code="MISSING_INPUT", field=INPUT)
    if len(found) > 1:
        raise InvalidRequest(f"The body has the keys {check.list_names(found)}: send one.", code="AMBIGUOUS_FORMAT", field=found[1])
    return found[0]


def _named(value: Any, signature: Signature, key: str) -> list[tuple[str, Any]]:
    """Of a model with several inputs: an object of values, or a list of such objects, one per row."""
    names = [spec.name for spec in signature.inputs]
    if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
        for index, row in enumerate(value):
            check.check_names(list(row), signature, f"{key}[{index}]")
        return [(f"{key}.{clip(spec.name)}", [_cell(row[spec.name], spec) for row in value]) for spec in signature.inputs]
    if not isinstance(value, dict):
        raise InvalidRequest(f"'{key}' must be an object with the inputs {check.list_names(names)}.", code="WRONG_TYPE", field=key)
    check.check_names(list(value), signature, key)
    return [(f"{key}.{clip(name)}", value[name]) for name in names]


def _cell(value: Any, spec: TensorSpec) -> Any:
    """One row's value of a column [N, 1] may come without the list around it."""
    is_bare = spec.shape is not None and spec.shape[1:] == (1,) and not isinstance(value, list)
    return [value] if is_bare else value


def _prepared(value: Any, spec: TensorSpec, kinds: Mapping[str, str]) -> Any:
    kind = kinds.get(spec.name)
    if kind in _ENCODED_KINDS:
        return _encoded(value)
    if kind == media.TABULAR:
        return _filled(value, "" if spec.dtype == "string" else exact.Token("nan"))
    return _cell(value, spec)


def _encoded(value: Any) -> Any:
    """Text that stands for bytes is base64, with or without `{"b64": …}` around it."""
    if isinstance(value, list):
        return [_encoded_one(one) for one in value]
    return _encoded_one(value)


def _encoded_one(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    match = _DATA_URL.match(value)
    return {"b64": value[match.end() :] if match else value}


def _filled(value: Any, missing: Any) -> Any:
    """null is a missing value, which the version's processing fills."""
    if isinstance(value, list):
        return [missing if one is None else one for one in value]
    return missing if value is None else value
