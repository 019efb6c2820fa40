"""Parse JSON slowly and exactly: what the fast decoders refuse comes here, to be explained or, rarely, accepted. Pure.

The standard library's parser is used because it can be asked about duplicate keys and NaN; everything it lets through
that JSON does not (NaN, lone surrogates, 1e400) is caught here or in nested.py. Fast decoders must not do without this.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

from towline.core.errors import InvalidRequest, Kind
from towline.core.refs import clip

# Separators, hence values, that are looked at one by one: less than a second of work.
MAX_TOKENS = 1_000_000
# Where a bare word stands is looked for only in bodies this short: strings full of escapes are slow to skip.
_SEARCHED_CHARS = 1 << 20
# Of whole numbers in bodies longer than this.
_LONG_BYTES, _MAX_DIGITS = 1 << 18, 400
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|(-?Infinity|NaN)', re.DOTALL)
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
    # Given only where it may count: asking for each number costs as much as reading it.
    parse_int = _short_int if len(raw) > _LONG_BYTES else None
    constant = Token if allow_non_finite else _refuse_constant
    decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_int=parse_int, parse_constant=constant)
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
    if _SURROGATE.search(raw):
        _check_surrogates(value)
    rest = text[end:].lstrip(" \t\r\n")
    if rest and not stop_when_done:
        raise _bad_json("Extra data after the JSON value", _offset(text, len(text) - len(rest)))
    return value


def decode_text(raw: bytes) -> str:
    """UTF-8 without a byte order mark; not empty."""
    if not raw or raw.isspace():
        raise InvalidRequest("The body is empty: expected a JSON object.", code="EMPTY_BODY")
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise InvalidRequest("The body must be UTF-8 without a byte order mark.", code="BAD_ENCODING")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: byte {error.start}.", code="BAD_ENCODING") from None
    return text


def _check_surrogates(value: Any) -> None:
    """Refuse half surrogate pairs in any key or string. A loop, not a recursion: its work is bounded by MAX_TOKENS."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise InvalidRequest("A string holds half of a surrogate pair: it is no text.", code="BAD_ENCODING") from None


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


def _short_int(digits: str) -> int:
    """int() takes time by the square of the digits, and reads some thousand before it refuses; no type here holds more than 309."""
    if len(digits) > _MAX_DIGITS:
        raise ValueError("too many digits")
    return int(digits)


class _Constant(Exception):
    """A bare word where only numbers are allowed."""


def _refuse_constant(word: str) -> NoReturn:
    raise _Constant


def _first_constant(text: str) -> int | None:
    if len(text) > _SEARCHED_CHARS:
        return None
    return next((match.start() for match in _TOKEN.finditer(text) if match[1]), None)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        # `add` returns None: the first name that is there already ends the search, in one pass.
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidRequest(f"The key '{clip(twice)}' is given more than once.", code="DUPLICATE_KEY", field=clip(twice))
    return found


def _bad_json(reason: str, offset: int | None) -> InvalidRequest:
    where = "" if offset is None else f" at offset: {offset}"
    return InvalidRequest(f"JSON Parse error: {reason}{where}", code="BAD_JSON")


def _offset(text: str, position: int | None) -> int | None:
    return None if position is None else len(text[:position].encode())
