"""Decide which requests are read by the decoder: those whose JSON would hold the event loop for long. Pure."""

from __future__ import annotations

from towline.serve.codecs import compression, json
from towline.serve.protocols.exchange import Exchange

# The most JSON of one request that the front's own thread parses: some ten milliseconds of work.
MAX_OWN_BYTES = json.LARGE_BYTES
# No coding that is undone makes more of a byte.
_MAX_EXPANSION = 1032


def is_for_decoder(exchange: Exchange) -> bool:
    """Whether a complete request holds more JSON than the front reads itself, once its content coding is undone."""
    found = exchange.found
    if found is None or found.json_size is None:
        return False
    size = exchange.body_bytes
    if exchange.is_coded and MAX_OWN_BYTES // _MAX_EXPANSION < size <= MAX_OWN_BYTES:
        exchange.join_body()
        coding = exchange.header(b"content-encoding") or b""
        if compression.is_longer(exchange.body, coding, MAX_OWN_BYTES):
            size = MAX_OWN_BYTES + 1
    return size > MAX_OWN_BYTES and found.json_size(exchange, found.params, size) > MAX_OWN_BYTES
