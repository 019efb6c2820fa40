"""Undo and apply content codings (gzip, deflate), within a limit on the decoded size. Pure."""

from __future__ import annotations

import zlib

from towline.core.errors import InvalidRequest, Kind

# Window bits zlib wants for each coding. HTTP's "deflate" is the zlib format.
_WINDOW = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
# Below this compressing costs more than it saves; above, it would hold up the event loop.
MIN_BYTES, MAX_BYTES = 1024, 4 << 20


def decompress(body: bytes, coding: bytes, limit_bytes: int) -> bytes:
    """The body as it was before `coding`. Raises 413 beyond `limit_bytes`, 415 for a coding we do not undo, 400 for torn data."""
    name = coding.strip().lower()
    if name in (b"", b"identity"):
        return body
    window = _WINDOW.get(name)
    if window is None:
        raise InvalidRequest(
            "Only one content coding is undone, gzip or deflate.",
            code="UNSUPPORTED_ENCODING",
            kind=Kind.UNSUPPORTED_MEDIA,
            field="content-encoding",
            hint="Send the body plain, or compressed once with gzip.",
        )
    engine = zlib.decompressobj(window)
    try:
        # One byte more than allowed is enough to know.
        plain = engine.decompress(body, limit_bytes + 1)
    except zlib.error:
        raise _torn(name) from None
    if len(plain) > limit_bytes:
        raise InvalidRequest(
            f"The body is larger than {limit_bytes} bytes once decompressed.", code="BODY_TOO_LARGE", kind=Kind.TOO_LARGE, field="body"
        )
    if not engine.eof or engine.unused_data:
        raise _torn(name)
    return plain


def is_longer(body: bytes, coding: bytes, size: int) -> bool:
    """Whether there are more than `size` bytes in `body`; False also where it cannot be undone."""
    window = _WINDOW.get(coding.strip().lower())
    try:
        return window is not None and len(zlib.decompressobj(window).decompress(body, size + 1)) > size
    except zlib.error:
        return False


def _torn(name: bytes) -> InvalidRequest:
    return InvalidRequest(
        f"The body is not valid {name.decode()} data, or holds more than one stream.", code="BAD_ENCODING", field="content-encoding"
    )


def choose(accept_encoding: bytes | None) -> bytes | None:
    """The coding a client asks for that we apply: gzip before deflate; None for neither."""
    if not accept_encoding:
        return None
    asked = {}
    for part in accept_encoding.lower().split(b","):
        name, _, weight = part.partition(b";")
        asked[name.strip()] = weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return next((name for name in (b"gzip", b"deflate") if asked.get(name)), None)


def compress(body: bytes, coding: bytes) -> bytes:
    engine = zlib.compressobj(1, zlib.DEFLATED, _WINDOW[coding])
    return engine.compress(body) + engine.flush()


def is_worth_compressing(size_bytes: int) -> bool:
    return MIN_BYTES < size_bytes <= MAX_BYTES
