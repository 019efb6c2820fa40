"""A picture's format and size are read from its first bytes, as its own decoder would find them."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from towline.core.picture import Picture, look

SIZES = [(1, 1), (7, 3), (640, 480), (300, 1999)]


def encoded(kind: str, size: tuple[int, int], **options: object) -> bytes:
    place = io.BytesIO()
    Image.new("RGB", size).save(place, kind, **options)
    return place.getvalue()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("GIF", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"exif": b"Exif\0\0" + b"II*\0\x08\0\0\0\0\0" + bytes(20_000)}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}),
    ],
)
def test_the_header_tells_what_the_decoder_finds(kind: str, options: dict, size: tuple[int, int]) -> None:
    assert look(encoded(kind, size, **options)) == Picture(kind, *size)


@pytest.mark.parametrize("raw", [b"", b"GIF8", b"<svg/>", b"%PDF-1.7", b"II*\0" + bytes(40), b"RIFF\0\0\0\0WAVEfmt "])
def test_what_is_none_of_the_five_formats_is_nothing(raw: bytes) -> None:
    assert look(raw) is None


def test_an_old_bitmap_and_one_that_is_upside_down_are_read() -> None:
    old = b"BM" + bytes(12) + (12).to_bytes(4, "little") + (5).to_bytes(2, "little") + (6).to_bytes(2, "little") + bytes(8)
    turned = b"BM" + bytes(12) + (40).to_bytes(4, "little") + (5).to_bytes(4, "little") + (-6).to_bytes(4, "little", signed=True)

    assert look(old) == look(turned) == Picture("BMP", 5, 6)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "WEBP"]), cut=st.integers(0, 60), place=st.integers(0, 59), byte=st.integers(0, 255)
)
def test_damage_gives_some_size_or_none_and_never_an_error(kind: str, cut: int, place: int, byte: int) -> None:
    raw = bytearray(encoded(kind, (9, 9)))
    raw[min(place, len(raw) - 1)] = byte

    for damaged in (raw, raw[:cut]):
        seen = look(bytes(damaged))
        assert seen is None or seen.pixels >= 0
