"""Content codings are undone within a limit, and applied when asked for."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from towline.core.errors import Kind, TowlineError
from towline.serve.codecs import compression


def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_refused() -> None:
    assert compression.decompress(gzip.compress(bytes(1000)), b"gzip", 1000) == bytes(1000)
    with pytest.raises(TowlineError) as caught:
        compression.decompress(gzip.compress(bytes(1001)), b"gzip", 1000)
    assert caught.value.kind is Kind.TOO_LARGE


def test_a_bomb_costs_no_more_memory_than_the_limit() -> None:
    engine = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(engine.compress(bytes(1 << 20)) for _ in range(128)) + engine.flush()
    tracemalloc.start()
    try:
        with pytest.raises(TowlineError):
            compression.decompress(bomb, b"gzip", 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("coding", [b"", b"identity", b"Identity "])
def test_a_plain_body_stays_as_it_is(coding: bytes) -> None:
    assert compression.decompress(b"abc", coding, 3) == b"abc"


@pytest.mark.parametrize("coding", [b"br", b"zstd", b"gzip, gzip", b"gzip,deflate", b"compress", b"\xff"])
def test_other_codings_are_415(coding: bytes) -> None:
    with pytest.raises(TowlineError) as caught:
        compression.decompress(gzip.compress(b"abc"), coding, 100)
    assert caught.value.kind is Kind.UNSUPPORTED_MEDIA


def test_two_streams_in_one_body_are_refused() -> None:
    with pytest.raises(TowlineError, match="more than one stream"):
        compression.decompress(gzip.compress(b"a") + gzip.compress(b"b"), b"gzip", 100)


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (None, None),
        (b"", None),
        (b"br", None),
        (b"gzip, deflate", b"gzip"),
        (b"deflate", b"deflate"),
        (b"GZIP;q=0.5", b"gzip"),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"gzip; q=0.0", None),
    ],
)
def test_the_coding_follows_what_the_client_asks_for(asked: bytes | None, chosen: bytes | None) -> None:
    assert compression.choose(asked) == chosen
