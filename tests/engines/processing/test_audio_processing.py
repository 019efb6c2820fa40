"""WAVs of every width become the same samples, spectrograms follow the published definitions, and damage is told by row."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processed import Processed, load

from towline.core.errors import EngineError, Kind
from towline.core.steps import Mel
from towline.engines.processing.mel import MelSpectrogram, _slaney_hz, _slaney_mel, mel_filters
from towline.engines.processing.wav import WavError, read_wav
from towline.testing import tiny_models

SAMPLES = tiny_models.identity("float32", ("N", "T"))
WAVE = np.array([0.0, 0.5, -0.5, 0.25, -1.0])


def pcm(samples: np.ndarray = WAVE, *, bits: int = 16, rate: int = 8000, channels: int = 1) -> bytes:
    """As Python's own writer makes it."""
    place = io.BytesIO()
    whole = np.round(samples * 2 ** (bits - 1)).clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1).astype(np.int64)
    if bits == 8:
        whole = whole + 128
    raw = b"".join(int(value).to_bytes(bits // 8, "little", signed=bits > 8) for value in np.repeat(whole, channels))
    with wave.open(place, "wb") as file:
        file.setparams((channels, bits // 8, rate, len(samples), "NONE", ""))
        file.writeframes(raw)
    return place.getvalue()


def head(tag: int, bits: int, size: int, *, rate: int = 8000, channels: int = 1, extra: bytes = b"") -> bytes:
    block = channels * bits // 8
    shape = struct.pack("<HHIIHH", tag, channels, rate, rate * block, block, bits) + extra
    return b"RIFF\0\0\0\0WAVE" + b"fmt " + struct.pack("<I", len(shape)) + shape + b"data" + struct.pack("<I", size)


def floats(samples: np.ndarray, bits: int) -> bytes:
    raw = samples.astype(f"<f{bits // 8}").tobytes()
    return head(3, bits, len(raw)) + raw


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Processed:
    return load(tmp_path_factory.mktemp("samples"), SAMPLES, '[[before]]\nstep = "audio"\nmax_seconds = 1\n')


@pytest.mark.parametrize("raw", [pcm(bits=8), pcm(), pcm(bits=24), pcm(bits=32), floats(WAVE, 32), floats(WAVE, 64)])
def test_every_width_gives_the_same_samples(plain: Processed, raw: bytes) -> None:
    np.testing.assert_allclose(plain.run(audio=[raw])["y"][0], WAVE, atol=1e-6)


def test_channels_are_averaged(plain: Processed) -> None:
    stereo = np.array([[0.5, 0.0], [-0.5, 0.25]])
    raw = pcm(stereo.reshape(-1))
    two = raw[:22] + struct.pack("<H", 2) + raw[24:28] + struct.pack("<IH", 8000 * 4, 4) + raw[34:]

    np.testing.assert_allclose(plain.run(audio=[two])["y"][0], [0.25, -0.125], atol=1e-6)


def test_an_extensible_header_and_chunks_before_the_samples_are_read(plain: Processed) -> None:
    raw = pcm()
    kind = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + b"\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71"
    extensible = head(0xFFFE, 16, 10, extra=kind) + raw[44:]
    # A chunk of odd length is followed by a byte that counts for nothing.
    listed = raw[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + raw[36:]

    for other in (extensible, listed):
        np.testing.assert_allclose(plain.run(audio=[other])["y"][0], WAVE, atol=1e-6)


def test_a_writer_that_did_not_know_the_length_is_read_to_the_end(plain: Processed) -> None:
    raw = head(1, 16, 0xFFFFFFFF) + pcm()[44:]

    np.testing.assert_allclose(plain.run(audio=[raw])["y"][0], WAVE, atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "is empty"),
        (b"ID3 some song", "is no WAV file"),
        (pcm()[:30], "it ends before its samples"),
        (pcm()[:-4], "is a torn WAV file: 10 bytes of samples were written, 6 came"),
        (head(1, 16, 0), "holds no samples"),
        (head(7, 8, 4) + bytes(4), "is a WAV of format 7 with 8 bits"),
        (head(1, 16, 4, channels=0) + bytes(4), "0 channels"),
        (head(1, 16, 4, rate=0) + bytes(4), "0 Hz"),
        (floats(np.array([0.0, np.nan]), 32), "samples that are not finite"),
        (b"RIFF\0\0\0\0WAVEdata\x04\0\0\0\0\0\0\0", "its samples come before their format"),
    ],
)
def test_what_is_no_whole_wav_is_refused_by_its_row(plain: Processed, raw: bytes, said: str) -> None:
    with pytest.raises(EngineError) as caught:
        plain.run(audio=[pcm(), raw])

    assert caught.value.message.startswith("audio[1] ")
    assert said in caught.value.message
    assert (caught.value.code, caught.value.kind) == ("BAD_AUDIO", Kind.INVALID)


def test_a_long_sound_is_refused_by_its_header(plain: Processed) -> None:
    with pytest.raises(EngineError, match=r"audio\[0\] lasts 2 s; at most 1 s") as caught:
        plain.run(audio=[pcm(np.zeros(16_000))])

    assert (caught.value.code, caught.value.kind) == ("AUDIO_TOO_LONG", Kind.TOO_LARGE)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 60), st.integers(0, 255))
def test_no_bytes_make_the_reader_stumble(raw: bytes, place: int, byte: int) -> None:
    mangled = bytearray(pcm())
    mangled[min(place, len(mangled) - 1)] = byte
    for one in (raw, b"RIFF\0\0\0\0WAVE" + raw, bytes(mangled)):
        try:
            samples = read_wav(one).samples()
        except WavError:
            continue
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()


def test_resampling_keeps_a_tone_and_its_length(tmp_path: Path) -> None:
    resample = load(tmp_path, SAMPLES, '[[before]]\nstep = "audio"\n[[before]]\nstep = "resample"\nrate = 16000\n')
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)

    got = resample.run(audio=[pcm(tone)])["y"][0]

    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    assert len(got) == 16_000
    assert np.abs(got - expected)[500:-500].max() < 1e-3


def test_fit_cuts_or_fills_and_layout_adds_the_channel(tmp_path: Path) -> None:
    declared = '[[before]]\nstep = "audio"\n[[before]]\nstep = "fit"\nsamples = 3\n'
    fit = load(tmp_path, tiny_models.identity("float32", ("N", 3, 1)), declared)

    got = fit.run(audio=[pcm(), pcm(WAVE[:2])])["y"]

    np.testing.assert_allclose(got, [[[0], [0.5], [-0.5]], [[0], [0.5], [0]]], atol=1e-6)


def test_slaneys_scale_is_that_of_librosa() -> None:
    """From librosa's documentation: mel_frequencies(n_mels=40), hz_to_mel(60) and mel_to_hz(3)."""
    centres = _slaney_hz(np.linspace(0, float(_slaney_mel(np.array(11_025.0))), 40))
    documented = {0: 0.0, 1: 85.317, 2: 170.635, 11: 938.49, 12: 1024.856, 13: 1119.114, 20: 2071.84, 30: 4994.285, 38: 10_096.408}

    for place, hz in documented.items():
        assert centres[place] == pytest.approx(hz, abs=1e-3)
    assert _slaney_mel(np.array(60.0)) == pytest.approx(0.9)
    assert _slaney_hz(np.array(3.0)) == pytest.approx(200.0)


def test_htk_filters_peak_at_1_and_slaneys_have_unit_area() -> None:
    settings = {"rate": 16_000, "mels": 12, "fft": 4096, "min_frequency": 50.0, "max_frequency": 7000.0}
    htk = mel_filters(Mel(scale="htk", norm="none", **settings))
    slaney = mel_filters(Mel(**settings))

    assert htk.max(axis=1) == pytest.approx(np.ones(12), abs=0.05)
    # Each corner is equally far from the next in mel: 2595 log10(1 + f / 700).
    peaks = 2595 * np.log10(1 + htk.argmax(axis=1) * 16_000 / 4096 / 700)
    assert np.diff(peaks) == pytest.approx(np.full(11, np.diff(peaks).mean()), rel=0.03)
    assert slaney.sum(axis=1) * 16_000 / 4096 == pytest.approx(np.ones(12), rel=0.02)


def test_a_spectrogram_is_what_its_formula_says() -> None:
    step = Mel(rate=8000, mels=6, fft=64, hop=20, window=50, power=1, log="db", floor=1e-3, max_frequency=4000.0)
    samples = np.random.default_rng(0).normal(0, 0.1, 200).astype(np.float32)
    mirrored = np.concatenate([samples[32:0:-1], samples, samples[-2:-34:-1]]).astype(np.float64)
    window = np.zeros(64)
    window[7:57] = [0.5 - 0.5 * np.cos(2 * np.pi * n / 50) for n in range(50)]
    basis = np.exp(-2j * np.pi * np.outer(np.arange(33), np.arange(64)) / 64)
    magnitude = np.stack([np.abs(basis @ (window * mirrored[20 * frame : 20 * frame + 64])) for frame in range(11)], axis=1)

    expected = 20 * np.log10(np.maximum(mel_filters(step) @ magnitude, 1e-3))

    np.testing.assert_allclose(MelSpectrogram(step).of(samples), expected, rtol=1e-5)


def test_the_loudest_band_rises_with_the_tone(tmp_path: Path) -> None:
    declared = (
        '[[before]]\nstep = "audio"\n[[before]]\nstep = "resample"\nrate = 8000\n[[before]]\nstep = "mel"\nmels = 16\nfft = 256\nhop = 64\n'
    )
    bands = load(tmp_path, tiny_models.mel_profile(mels=16), declared)
    tones = [pcm(0.5 * np.sin(2 * np.pi * hz * np.arange(4000) / 8000)) for hz in (200, 1000, 3000)]

    loudest = bands.run(audio=tones)["y"].argmax(axis=1)

    assert loudest[0] < loudest[1] < loudest[2]
    assert bands.manifest.processing.before[-1].settings == {"order": "NFT"}
