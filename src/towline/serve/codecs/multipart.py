"""multipart/form-data in bounded work: the parts of a body that is already here. Names of files are never looked at. Pure.

python-multipart reads the bytes. It goes through some of them one by one, so what would make it do that at length is refused first.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from towline.core.errors import InvalidRequest, Kind
from towline.core.refs import clip

MAX_FILES = 16
MAX_FIELDS = 1000
MAX_FIELD_BYTES = 64 << 10
MAX_PART_HEADERS = 16
MAX_HEADER_BYTES = 4096
MAX_NAME_CHARS = 128
# RFC 2046, 5.1.1.
MAX_BOUNDARY_BYTES = 70

_AS_IT_IS = (b"", b"7bit", b"8bit", b"binary")


@dataclass(frozen=True)
class Part:
    """One part. `is_file`: it came with a file name, which is dropped. `media` is its content type in lower case, or empty."""

    name: str
    content: bytes
    media: str = ""
    is_file: bool = False


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type header names. Raises InvalidRequest."""
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise InvalidRequest(
            f"multipart/form-data needs a boundary of 1 to {MAX_BOUNDARY_BYTES} characters.",
            code="BAD_MULTIPART",
            field="content-type",
            hint="Let your client write the header itself.",
        )
    return boundary


def parse(body: bytes, boundary: bytes) -> list[Part]:
    """All parts, in order. Raises InvalidRequest for a body that is torn, malformed or beyond the bounds."""
    # Imported here: a server that is never sent a form does not pay for it.
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    # It logs each malformed body; a flood of those must not become a flood of lines.
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)
    _check_delimiters(body, b"--" + boundary)
    collector = _Collector()
    parser = MultipartParser(
        boundary,
        {
            "on_part_begin": collector.begin,
            "on_header_field": collector.header_name,
            "on_header_value": collector.header_value,
            "on_header_end": collector.header_end,
            "on_headers_finished": collector.headers_end,
            "on_part_data": collector.data,
            "on_part_end": collector.end_part,
            "on_end": collector.end,
        },
        max_header_count=MAX_PART_HEADERS,
        max_header_size=MAX_HEADER_BYTES,
    )
    try:
        parser.write(body)
    except FormParserError:
        raise _malformed(
            f"a part has more than {MAX_PART_HEADERS} headers, one of more than {MAX_HEADER_BYTES} bytes, or a bad one"
        ) from None
    if not collector.is_complete:
        raise _malformed("its last boundary is missing")
    return collector.parts


def _check_delimiters(body: bytes, delimiter: bytes) -> None:
    """Few enough of them, and each followed by what must follow it."""
    if not body.lstrip(b"\r\n").startswith(delimiter):
        raise _malformed("it does not begin with the boundary that the content-type names")
    if body.count(b"\r\n" + delimiter) > MAX_FILES + MAX_FIELDS + 1:
        raise _too_many("parts", MAX_FILES + MAX_FIELDS)
    place = body.find(delimiter)
    while place >= 0:
        after = place + len(delimiter)
        if body[after : after + 2] not in (b"\r\n", b"--"):
            raise _malformed("a boundary is followed by something else than the end of its line")
        place = body.find(b"\r\n" + delimiter, after)
        place += 2 if place >= 0 else 0


class _Collector:
    """What the parser calls."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.is_complete = False
        self._files = self._fields = 0

    def begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._content: list[bytes] = []

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        name = self._name.lower()
        if name in self._headers:
            raise _malformed("a part has the same header twice")
        self._headers[name] = self._value
        self._name = self._value = b""

    def headers_end(self) -> None:
        from python_multipart.multipart import parse_options_header

        disposition, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise _malformed("a part has no 'Content-Disposition: form-data; name=…'")
        if self._headers.get(b"content-transfer-encoding", b"").strip().lower() not in _AS_IT_IS:
            raise _malformed("a part has a transfer encoding; send its bytes as they are")
        self._field = options[b"name"].decode("utf-8", "replace")
        if len(self._field) > MAX_NAME_CHARS:
            raise _malformed(f"the name of a part has more than {MAX_NAME_CHARS} characters")
        self._is_file = b"filename" in options
        self._files += self._is_file
        self._fields += not self._is_file
        if self._files > MAX_FILES:
            raise _too_many("files", MAX_FILES)
        if self._fields > MAX_FIELDS:
            raise _too_many("fields", MAX_FIELDS)

    def data(self, data: bytes, start: int, end: int) -> None:
        if not self._is_file and end - start > MAX_FIELD_BYTES:
            raise InvalidRequest(
                f"The field '{clip(self._field)}' has more than {MAX_FIELD_BYTES} bytes.",
                code="FIELD_TOO_LARGE",
                kind=Kind.TOO_LARGE,
                field=clip(self._field),
                hint="Send it as a file.",
            )
        self._content.append(data[start:end])

    def end_part(self) -> None:
        content = self._content[0] if len(self._content) == 1 else b"".join(self._content)
        media = self._headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        self.parts.append(Part(self._field, content, media, self._is_file))

    def end(self) -> None:
        self.is_complete = True


def _malformed(what: str) -> InvalidRequest:
    return InvalidRequest(f"The body is no multipart/form-data: {what}.", code="BAD_MULTIPART")


def _too_many(what: str, limit: int) -> InvalidRequest:
    return InvalidRequest(
        f"The form has more than {limit} {what}.", code="TOO_MANY_PARTS", kind=Kind.TOO_LARGE, hint="Send them in several requests."
    )
