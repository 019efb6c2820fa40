"""WAV bytes -> samples or mel spectrograms. Imported only in a worker whose version declares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from towline.core import steps
from towline.core.errors import Kind
from towline.core.steps import Chain
from towline.engines.processing.errors import bad_row, missing
from towline.engines.processing.layout import arranged, normalised
from towline.engines.processing.mel import MelSpectrogram
from towline.engines.processing.wav import Wav, WavError, read_wav


class AudioReader:
    """Reads one chain: rows of WAV bytes to one array per row, for the graph's input `chain.source.into`."""

    def __init__(self, chain: Chain, dtype: np.dtype) -> None:
        assert isinstance(chain.source, steps.Audio)
        self._source = chain.source
        self._dtype = dtype
        self._axes = "T"
        self._order = "NT"
        self._rate = 0
        self._changes: list[Callable[[np.ndarray], np.ndarray]] = []
        for step in chain.steps:
            self._add(step)

    def read(self, inputs: Mapping[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
        return {self._source.into: [self._row(raw, row) for row, raw in enumerate(inputs[self._source.name])]}

    def _row(self, raw: bytes, row: int) -> np.ndarray:
        name = self._source.name
        try:
            wav = read_wav(raw)
            if wav.seconds > self._source.max_seconds:
                raise bad_row(
                    "AUDIO_TOO_LONG",
                    name,
                    row,
                    f"lasts {wav.seconds:.3g} s; at most {self._source.max_seconds:g} s are taken.",
                    hint="Send it in parts.",
                    kind=Kind.TOO_LARGE,
                )
            samples = self._samples(wav)
        except WavError as error:
            raise bad_row("BAD_AUDIO", name, row, f"{error}.", hint="Send the bytes of a WAV file as they are.") from None
        for change in self._changes:
            samples = change(samples)
        return np.ascontiguousarray(arranged(samples, self._axes, self._order), dtype=self._dtype)

    def _samples(self, wav: Wav) -> np.ndarray:
        mono: np.ndarray = wav.samples().mean(axis=1, dtype=np.float32)
        if not self._rate or wav.rate == self._rate:
            return mono
        # At least one sample is left of the shortest clip.
        return _resampled(mono, wav.rate, self._rate) if len(mono) * self._rate >= wav.rate else mono[:1]

    def _add(self, step: steps.Before) -> None:
        if isinstance(step, steps.Resample):
            self._rate = step.rate
            # Now, so that a missing package is told when the version is loaded.
            _soxr()
        elif isinstance(step, steps.Fit):
            self._changes.append(lambda samples: _fitted(samples, step.samples))
        elif isinstance(step, steps.Mel):
            self._changes.append(MelSpectrogram(step).of)
            self._axes, self._order = "FT", "NFT"
        elif isinstance(step, steps.Normalise):
            mean, std, axes = np.array(step.mean, np.float32), np.array(step.std, np.float32), self._axes
            self._changes.append(lambda array: normalised(array, step.scale, mean, std, axes))
        elif isinstance(step, steps.Layout):
            self._order = step.order


def _soxr() -> Callable[..., np.ndarray]:
    try:
        import soxr
    except ImportError as error:
        raise missing("soxr", "audio") from error
    resample: Callable[..., np.ndarray] = soxr.resample
    return resample


def _resampled(samples: np.ndarray, have: int, want: int) -> np.ndarray:
    return np.asarray(_soxr()(samples, have, want), np.float32)


def _fitted(samples: np.ndarray, count: int) -> np.ndarray:
    return samples[:count] if len(samples) >= count else np.pad(samples, (0, count - len(samples)))
