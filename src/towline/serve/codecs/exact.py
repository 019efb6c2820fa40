"""Parse JSON slowly and exactly: what the fast decoders refuse comes here, to be explained or, rarely, accepted. Pure.

The standard library's parser is used because it can be asked about duplicate keys and NaN; everything it lets through
that JSON does not (NaN, lone surrogates, 1e400) is caught here or in nested.py. Fast decoders must not do without this.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

import msgspec

from towline.core.errors import InvalidRequest, Kind
from towline.core.refs import clip

# Separators, hence values, that are looked at one by one: about half a second of work.
MAX_TOKENS = 2_000_000
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|(-?Infinity|NaN)')
_AT = re.compile(r" - at `\$\.?(?:key in )?([^`]*)`$")
_BYTE = re.compile(r" \(byte (\d+)\)$")


class Token(float):
    """NaN, Infinity or -Infinity as written in the body, told apart from a number that was too large (1e400)."""


def parse(raw: bytes, *, allow_non_finite: bool = False, stop_when_done: bool = False) -> Any:
    """The JSON value in `raw`. Raises InvalidRequest with a code, a byte offset and, where there is one, a field.

    `allow_non_finite` accepts NaN, Infinity and -Infinity as Token; `stop_when_done` ignores what follows the value.
    """
    text = decode_text(raw)
    tokens = raw.count(b",") + raw.count(b"[") + raw.count(b"{")
    if tokens > MAX_TOKENS:
        raise InvalidRequest(
            f"The body has {tokens} values and is not in the plain form that is read at this size.",
            code="NOT_PLAIN",
            kind=Kind.TOO_LARGE,
            hint="Check a smaller request first, or send binary tensors to /v2.",
        )
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=Token if allow_non_finite else _refuse_constant)
    try:
        start = len(text) - len(text.lstrip(" \t\r\n"))
        value, end = decoder.raw_decode(text, start)
    except _Constant:
        raise _bad_json("NaN and Infinity are no JSON numbers", _offset(text, _first_constant(text))) from None
    except json.JSONDecodeError as error:
        raise _bad_json(error.msg, _offset(text, error.pos)) from None
    except RecursionError:
        raise InvalidRequest("The JSON is nested too deeply.", code="BAD_JSON") from None
    except ValueError:
        # int() refuses numbers of more than some thousand digits.
        raise InvalidRequest("A number has too many digits.", code="OUT_OF_RANGE") from None
    rest = text[end:].lstrip(" \t\r\n")
    if rest and not stop_when_done:
        raise _bad_json("Extra data after the JSON value", _offset(text, len(text) - len(rest)))
    return value


def decode_text(raw: bytes) -> str:
    """UTF-8 without a byte order mark and without lone surrogates; not empty."""
    if not raw or raw.isspace():
        raise InvalidRequest("The body is empty: expected a JSON object.", code="EMPTY_BODY")
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise InvalidRequest("The body must be UTF-8 without a byte order mark.", code="BAD_ENCODING")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: byte {error.start}.", code="BAD_ENCODING") from None
    if _SURROGATE.search(raw):
        _check_surrogates(raw)
    return text


def _check_surrogates(raw: bytes) -> None:
    for match in _STRING.finditer(raw):
        if not _SURROGATE.search(match[0]):
            continue
        try:
            json.loads(match[0]).encode()
        except UnicodeEncodeError:
            raise InvalidRequest(
                f"A string holds half of a surrogate pair (byte {match.start()}): it is no text.", code="BAD_ENCODING"
            ) from None
        except ValueError:
            # Malformed in another way; the parser will say how.
            return


def explain(error: msgspec.DecodeError) -> InvalidRequest:
    """msgspec's words as an error of ours: `Expected `int`, got `float` - at `$.inputs[0].shape[1]`` names its field."""
    text = str(error)
    at, byte = _AT.search(text), _BYTE.search(text)
    if byte or "truncated" in text:
        return InvalidRequest(f"JSON Parse error: {clip(text, 120)}", code="BAD_JSON")
    message = (text[: at.start()] if at else text).replace("`", "'")
    field = at[1] if at else ""
    code = "OUT_OF_RANGE" if "out of range" in message or re.search("[<>]=? ", message) else "INVALID_ARGUMENT"
    return InvalidRequest(f"{clip(message, 160)}{f' at {clip(field)}' if field else ''}.", code=code, field=clip(field))


class _Constant(Exception):
    """A bare word where only numbers are allowed."""


def _refuse_constant(word: str) -> NoReturn:
    raise _Constant


def _first_constant(text: str) -> int:
    return next((match.start() for match in _TOKEN.finditer(text) if match[1]), 0)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise InvalidRequest(f"The key '{clip(twice)}' is given more than once.", code="DUPLICATE_KEY", field=clip(twice))
    return found


def _bad_json(reason: str, offset: int) -> InvalidRequest:
    return InvalidRequest(f"JSON Parse error: {reason} at offset: {offset}", code="BAD_JSON")


def _offset(text: str, position: int) -> int:
    return len(text[:position].encode())


def is_overflow(value: Any) -> bool:
    """Whether the parser made infinity of a number that was written out."""
    return type(value) is float and math.isinf(value)
