"""Mel spectrograms in numpy, by the definitions of Slaney's Auditory Toolbox (librosa's default) and of HTK (torchaudio's). Pure."""

from __future__ import annotations

import numpy as np

from towline.core.steps import Mel

# Slaney: linear below 1000 Hz, 200/3 Hz a mel; above, 27 steps for each factor of 6.4.
_SLANEY_HZ_PER_MEL = 200.0 / 3
_SLANEY_KNEE_HZ = 1000.0
_SLANEY_KNEE_MEL = _SLANEY_KNEE_HZ / _SLANEY_HZ_PER_MEL
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


class MelSpectrogram:
    """Its filters and window are made once; `of` turns samples float32 [n] into float32 [mels, frames]."""

    def __init__(self, step: Mel) -> None:
        self._step = step
        length = step.window or step.fft
        # A periodic Hann window, centred in the transform.
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
        left = (step.fft - length) // 2
        self._window = np.pad(hann, (left, step.fft - length - left))
        self._filters = mel_filters(step)

    def of(self, samples: np.ndarray) -> np.ndarray:
        step = self._step
        half = step.fft // 2
        if step.centre:
            # Shorter than the margin that is mirrored, there is nothing more to mirror.
            samples = np.pad(samples, half, mode="reflect") if len(samples) > half else np.pad(samples, half)
        elif len(samples) < step.fft:
            samples = np.pad(samples, (0, step.fft - len(samples)))
        frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), step.fft)[:: step.hop]
        spectrum = np.abs(np.fft.rfft(frames * self._window, axis=1))
        mels = self._filters @ (spectrum**step.power).T
        return _logged(mels, step).astype(np.float32)


def mel_filters(step: Mel) -> np.ndarray:
    """Triangles float64 [mels, fft/2 + 1]; with norm "slaney" each has unit area over its width in Hz."""
    top = step.max_frequency or step.rate / 2
    to_mel, to_hz = (_htk_mel, _htk_hz) if step.scale == "htk" else (_slaney_mel, _slaney_hz)
    edges = to_hz(_between(to_mel(np.array([step.min_frequency, top])), step.mels + 2))
    bins = np.fft.rfftfreq(step.fft, 1 / step.rate)
    widths = np.diff(edges)
    slopes = edges[:, None] - bins
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if step.norm == "slaney":
        filters *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return np.asarray(filters)


def _between(ends: np.ndarray, count: int) -> np.ndarray:
    return np.linspace(float(ends[0]), float(ends[1]), count)


def _logged(mels: np.ndarray, step: Mel) -> np.ndarray:
    if step.log == "none":
        return mels
    mels = np.maximum(mels, step.floor)
    if step.log == "ln":
        return np.asarray(np.log(mels))
    # Decibels of power: ten times the logarithm; of magnitude twenty times.
    factor = 1.0 if step.log == "log10" else 20.0 / step.power
    return np.asarray(factor * np.log10(mels))


def _htk_mel(hz: np.ndarray) -> np.ndarray:
    return np.asarray(2595.0 * np.log10(1.0 + hz / 700.0))


def _htk_hz(mel: np.ndarray) -> np.ndarray:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def _slaney_mel(hz: np.ndarray) -> np.ndarray:
    above = _SLANEY_KNEE_MEL + np.log(np.maximum(hz, _SLANEY_KNEE_HZ) / _SLANEY_KNEE_HZ) / _SLANEY_LOG_STEP
    return np.where(hz >= _SLANEY_KNEE_HZ, above, hz / _SLANEY_HZ_PER_MEL)


def _slaney_hz(mel: np.ndarray) -> np.ndarray:
    above = _SLANEY_KNEE_HZ * np.exp(_SLANEY_LOG_STEP * (np.maximum(mel, _SLANEY_KNEE_MEL) - _SLANEY_KNEE_MEL))
    return np.where(mel >= _SLANEY_KNEE_MEL, above, mel * _SLANEY_HZ_PER_MEL)
