"""Read WAV bytes: PCM of 8, 16, 24 and 32 bits and floats of 32 and 64, plain or WAVE_FORMAT_EXTENSIBLE. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_HEAD = struct.Struct("<4sI4s")
_CHUNK = struct.Struct("<4sI")
_FORMAT = struct.Struct("<HHIIHH")
# A writer that did not know the length, as ffmpeg into a pipe.
_UNKNOWN = (0xFFFFFFFF, 0)
_MAX_CHANNELS = 64
_MAX_RATE = 1_000_000


class WavError(ValueError):
    """Not a WAV, or a damaged one; the text completes "audio[0] …"."""


@dataclass(frozen=True)
class Wav:
    """A WAV whose header was read; `samples` decodes. `rate` is frames per second, `frames` samples per channel."""

    rate: int
    channels: int
    bits: int
    is_float: bool
    data: memoryview

    @property
    def frames(self) -> int:
        return len(self.data) // (self.channels * self.bits // 8)

    @property
    def seconds(self) -> float:
        return self.frames / self.rate

    def samples(self) -> np.ndarray:
        """float32 [frames, channels] from -1 to 1."""
        count = self.frames * self.channels
        raw = self.data[: count * self.bits // 8]
        if self.is_float:
            values = np.frombuffer(raw, "<f4" if self.bits == 32 else "<f8")
            # A NaN among the samples would spread over the whole answer.
            if not np.isfinite(values).all():
                raise WavError("holds samples that are not finite")
            return values.astype(np.float32).reshape(-1, self.channels)
        if self.bits == 8:
            # The only width without a sign: silence is 128.
            whole = np.frombuffer(raw, np.uint8).astype(np.int32) - 128
        elif self.bits == 24:
            wide = np.zeros((count, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
            whole = wide.view("<i4").reshape(-1) >> 8
        else:
            whole = np.frombuffer(raw, f"<i{self.bits // 8}")
        return (whole / np.float64(2 ** (self.bits - 1))).astype(np.float32).reshape(-1, self.channels)


def read_wav(raw: bytes) -> Wav:
    """Read the header. Raises WavError; nothing is decoded yet."""
    if len(raw) < _HEAD.size:
        raise WavError("is empty" if not raw else "is no WAV file")
    riff, _, wave = _HEAD.unpack_from(raw)
    if riff != b"RIFF" or wave != b"WAVE":
        raise WavError("is no WAV file")
    view, place, found = memoryview(raw), _HEAD.size, None
    while place + _CHUNK.size <= len(raw):
        kind, size = _CHUNK.unpack_from(raw, place)
        place += _CHUNK.size
        if kind == b"data":
            if found is None:
                raise WavError("is a damaged WAV file: its samples come before their format")
            return _with_data(found, view[place:], size)
        if size > len(raw) - place:
            break
        if kind == b"fmt ":
            found = _format(view[place : place + size])
        # Chunks begin at even places.
        place += size + size % 2
    raise WavError("is a damaged WAV file: it ends before its samples")


def _format(raw: memoryview) -> tuple[int, int, int, bool]:
    if len(raw) < _FORMAT.size:
        raise WavError("is a damaged WAV file: its format is cut off")
    tag, channels, rate, _, block, bits = _FORMAT.unpack_from(raw)
    if tag == _EXTENSIBLE and len(raw) >= 26:
        tag = int.from_bytes(raw[24:26], "little")
    if (tag, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32), (_FLOAT, 64)}:
        raise WavError(f"is a WAV of format {tag} with {bits} bits; PCM of 8, 16, 24, 32 bits and float of 32, 64 are read")
    if not 1 <= channels <= _MAX_CHANNELS or not 1 <= rate <= _MAX_RATE or block != channels * bits // 8:
        raise WavError(f"is a damaged WAV file: {channels} channels, {rate} Hz, blocks of {block} bytes")
    return rate, channels, bits, tag == _FLOAT


def _with_data(found: tuple[int, int, int, bool], rest: memoryview, size: int) -> Wav:
    rate, channels, bits, is_float = found
    if size in _UNKNOWN:
        size = len(rest)
    if size > len(rest):
        raise WavError(f"is a torn WAV file: {size} bytes of samples were written, {len(rest)} came")
    wav = Wav(rate, channels, bits, is_float, rest[:size])
    if not wav.frames:
        raise WavError("holds no samples")
    return wav
