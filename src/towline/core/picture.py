"""Tell a picture's format and size from its first bytes, before any decoder sees it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_JPEG_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers that stand alone, without a length.
_JPEG_BARE = frozenset(range(0xD0, 0xD9)) | {0x01}


@dataclass(frozen=True)
class Picture:
    """`format` is JPEG, PNG, WEBP, BMP or GIF; sizes in pixels. One that is damaged has the size 0 x 0."""

    format: str
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def look(raw: bytes | memoryview) -> Picture | None:
    """What the header says; None for what is none of the five formats. Reads a JPEG as far as its frame header."""
    head = bytes(raw[:32])
    if head.startswith(b"\xff\xd8\xff"):
        return Picture("JPEG", *_jpeg(raw))
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Picture("PNG", *((_big(head[16:20]), _big(head[20:24])) if head[12:16] == b"IHDR" and len(head) >= 24 else (0, 0)))
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Picture("GIF", _little(head[6:8]), _little(head[8:10]))
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return Picture("WEBP", *_webp(head))
    if head.startswith(b"BM") and len(head) >= 26:
        return Picture("BMP", *_bmp(head))
    return None


def _big(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


def _little(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _jpeg(raw: bytes | memoryview) -> tuple[int, int]:
    """From marker to marker until the one that tells the size."""
    place, end = 2, len(raw)
    while place + 9 <= end:
        if raw[place] != 0xFF:
            return 0, 0
        marker = raw[place + 1]
        if marker == 0xFF:
            place += 1
        elif marker in _JPEG_BARE:
            place += 2
        elif marker in _JPEG_SIZES:
            return _big(bytes(raw[place + 7 : place + 9])), _big(bytes(raw[place + 5 : place + 7]))
        else:
            length = _big(bytes(raw[place + 2 : place + 4]))
            if length < 2 or marker in (0xD9, 0xDA):
                return 0, 0
            place += 2 + length
    return 0, 0


def _webp(head: bytes) -> tuple[int, int]:
    kind = head[12:16]
    if len(head) < 30:
        return 0, 0
    if kind == b"VP8X":
        return _little(head[24:27]) + 1, _little(head[27:30]) + 1
    if kind == b"VP8L" and head[20] == 0x2F:
        bits = _little(head[21:25])
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8 " and head[23:26] == b"\x9d\x01\x2a":
        return _little(head[26:28]) & 0x3FFF, _little(head[28:30]) & 0x3FFF
    return 0, 0


def _bmp(head: bytes) -> tuple[int, int]:
    if _little(head[14:18]) == 12:
        return _little(head[18:20]), _little(head[20:22])
    width, height = (int.from_bytes(head[start : start + 4], "little", signed=True) for start in (18, 22))
    # A negative height means that the first row is the top one.
    return max(width, 0), abs(height)
