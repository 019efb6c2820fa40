"""The steps that processing around a graph may declare, each with its settings, their defaults and their ranges. Pure.

Before the graph, a step of `SOURCES` begins a chain: it reads an input that clients send, and the steps after it up to the next
source work on what it read. After the graph there is one chain, on one of the graph's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from towline.core.errors import VersionError
from towline.core.manifest import Processing, Step

# Pillow itself warns beyond this many; a setting may not go further.
MOST_PIXELS = 89_478_485
Size = Annotated[int, Meta(ge=1, le=16_384)]
# 0 stands for "not given".
OptionalSize = Annotated[int, Meta(ge=0, le=16_384)]
Name = Annotated[str, Meta(min_length=1, max_length=128)]
OptionalName = Annotated[str, Meta(max_length=128)]
Numbers = Annotated[tuple[float, ...], Meta(min_length=1, max_length=65_536)]
Positive = Annotated[float, Meta(gt=0)]
Frequency = Annotated[float, Meta(ge=0, le=1_000_000)]


class _Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="step"):
    """One step. Its kind is the key `step`."""


class Image(_Step, frozen=True, tag="image"):
    """Decode a JPEG, PNG, WebP, BMP or GIF (its first frame) into 8-bit pixels [height, width, channels].

    `rotate` turns it as its EXIF orientation says. `background` ([r, g, b]) is what shows through transparent pixels; without one the
    alpha channel is dropped, as Pillow's convert("RGB") does. `max_pixels` is held against the header before anything is decoded.
    """

    name: Name = "image"
    into: OptionalName = ""
    colour: Literal["rgb", "bgr", "grey"] = "rgb"
    rotate: bool = True
    background: tuple[float, float, float] | None = None
    max_pixels: Annotated[int, Meta(ge=1, le=MOST_PIXELS)] = 16_777_216


class Resize(_Step, frozen=True, tag="resize"):
    """To `width` x `height`, or until the `shorter` or the `longer` side has that many pixels, the other in proportion (rounded down)."""

    shorter: OptionalSize = 0
    longer: OptionalSize = 0
    width: OptionalSize = 0
    height: OptionalSize = 0
    filter: Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"] = "bilinear"


class Crop(_Step, frozen=True, tag="crop"):
    """The middle `width` x `height`; a smaller picture is first padded with black."""

    width: Size
    height: Size


class Pad(_Step, frozen=True, tag="pad"):
    """Up to `width` x `height`, the picture in the middle; a larger picture is refused."""

    width: Size
    height: Size
    fill: Annotated[int, Meta(ge=0, le=255)] = 0


class Normalise(_Step, frozen=True, tag="normalise"):
    """(value * scale - mean) / std, with one mean and std per channel, or one for all."""

    scale: float = 1 / 255
    mean: Numbers = (0.0,)
    std: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=65_536)] = (1.0,)


class Layout(_Step, frozen=True, tag="layout"):
    """The order of the graph's axes: N rows, C channels, H height, W width, T time, F frequency."""

    order: Annotated[str, Meta(pattern="^N[CHWTF]{1,3}$")]


class Audio(_Step, frozen=True, tag="audio"):
    """Decode a WAV (PCM of 8, 16, 24 or 32 bits, float of 32 or 64) into samples from -1 to 1; channels are averaged.

    `max_seconds` is held against the header before anything is decoded.
    """

    name: Name = "audio"
    into: OptionalName = ""
    max_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0


class Resample(_Step, frozen=True, tag="resample"):
    """To `rate` samples per second."""

    rate: Annotated[int, Meta(ge=100, le=1_000_000)]


class Fit(_Step, frozen=True, tag="fit"):
    """To exactly `samples`: the end is cut off, or filled with zeros."""

    samples: Annotated[int, Meta(ge=1, le=100_000_000)]


class Mel(_Step, frozen=True, tag="mel"):
    """A mel spectrogram [mels, frames]; docs/reference/processing.md has its formula. Frequencies in Hz, lengths in samples.

    `max_frequency` 0 is half the sample rate. `power` 1 is magnitude, 2 power. `log` of values below `floor` is that of `floor`.
    """

    rate: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    mels: Annotated[int, Meta(ge=1, le=1024)] = 80
    fft: Annotated[int, Meta(ge=8, le=65_536)] = 400
    hop: Annotated[int, Meta(ge=1, le=65_536)] = 160
    window: Annotated[int, Meta(ge=0, le=65_536)] = 0
    min_frequency: Frequency = 0.0
    max_frequency: Frequency = 0.0
    scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney", "none"] = "slaney"
    power: Literal[1, 2] = 2
    centre: bool = True
    log: Literal["none", "ln", "log10", "db"] = "none"
    floor: Positive = 1e-10


class Text(_Step, frozen=True, tag="text"):
    """Turn UTF-8 text into token ids by a tokenizer.json. `ids`, `mask` and `types` name the graph's inputs; empty ones are not fed.

    `padding` "own" pads each text to a multiple of `pad_to_multiple_of` and runs texts of one length together, so that no text's answer
    depends on another's; "longest" pads to the longest of the batch; "max_length" always to `max_length`.
    """

    tokenizer: Name
    name: Name = "text"
    ids: OptionalName = ""
    mask: OptionalName = ""
    types: OptionalName = ""
    max_length: Annotated[int, Meta(ge=1, le=1_000_000)] = 512
    padding: Literal["own", "longest", "max_length"] = "own"
    pad_to_multiple_of: Annotated[int, Meta(ge=0, le=4096)] = 0
    max_bytes: Annotated[int, Meta(ge=1, le=16 << 20)] = 65_536


class Tabular(_Step, frozen=True, tag="tabular"):
    """One input per column becomes one row of a float matrix, in the order given. A missing number is NaN, a missing word is empty."""

    columns: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)]
    into: OptionalName = ""


class Fill(_Step, frozen=True, tag="fill"):
    """What stands for a missing value of one column: a `number`, or for a column of words one of its `word`s."""

    column: Name
    number: float | None = None
    word: str | None = None


class Category(_Step, frozen=True, tag="category"):
    """A column of words: `one_hot` becomes one 0/1 column per value, `index` its place. `unknown`: an error, or all zeros / -1."""

    column: Name
    values: Annotated[tuple[str, ...], Meta(min_length=1, max_length=65_536)]
    encode: Literal["one_hot", "index"] = "one_hot"
    unknown: Literal["error", "none"] = "error"


class Standardise(_Step, frozen=True, tag="standardise"):
    """(value - mean) / std of some columns, one mean and std for each."""

    columns: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=1000)]
    mean: Numbers
    std: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=1000)]


class Pool(_Step, frozen=True, tag="pool"):
    """One vector per row out of [N, tokens, width]: the `mean` over the tokens that are no padding, or the `first`. Gives `embedding`."""

    output: OptionalName = ""
    how: Literal["mean", "first"] = "mean"


class UnitLength(_Step, frozen=True, tag="unit_length"):
    """Divide each row by its Euclidean length. Gives `embedding`."""

    output: OptionalName = ""


class Softmax(_Step, frozen=True, tag="softmax"):
    """Scores that sum to 1 over the last axis. Gives `score`."""

    output: OptionalName = ""


class Sigmoid(_Step, frozen=True, tag="sigmoid"):
    """Each score from 0 to 1 for itself. Gives `score`."""

    output: OptionalName = ""


class Segment(_Step, frozen=True, tag="segment"):
    """The best class of each pixel of [N, classes, height, width], by softmax over the classes. Gives `score` and `index`."""

    output: OptionalName = ""


class TopK(_Step, frozen=True, tag="top_k"):
    """The `k` greatest of each row, greatest first; of equals the lower index first. Gives `score` and `index`."""

    output: OptionalName = ""
    k: Annotated[int, Meta(ge=1, le=65_536)] = 5


class Threshold(_Step, frozen=True, tag="threshold"):
    """Which scores are `at` or above. Gives `chosen`, a bool for each score."""

    output: OptionalName = ""
    at: float = 0.5


class Labels(_Step, frozen=True, tag="labels"):
    """The label of each index that top_k chose, from the version's labels. Gives `label`."""

    output: OptionalName = ""


Source = Image | Audio | Text | Tabular
Before = Image | Resize | Crop | Pad | Normalise | Layout | Audio | Resample | Fit | Mel | Text | Tabular | Fill | Category | Standardise
After = Pool | UnitLength | Softmax | Sigmoid | Segment | TopK | Threshold | Labels
SOURCES = (Image, Audio, Text, Tabular)
# What may follow a source in its chain.
FOLLOWERS: dict[type, tuple[type, ...]] = {
    Image: (Resize, Crop, Pad, Normalise, Layout),
    Audio: (Resample, Fit, Mel, Normalise, Layout),
    Text: (),
    Tabular: (Fill, Category, Standardise),
}


@dataclass(frozen=True)
class Chain:
    """A source and what is done with what it reads."""

    source: Source
    steps: tuple[Before, ...]


def kind_of(step: Any) -> str:
    """What a step, or a class of steps, is called where it is declared."""
    return str(step.__struct_config__.tag)


def into_of(source: Source) -> str:
    """The one input of the graph that a source feeds; nothing for text, which feeds several."""
    return "" if isinstance(source, Text) else source.into


def parse_before(step: Any) -> Before:
    """A step from its plain form, {"step": kind, …}. Raises msgspec.ValidationError."""
    parsed: Before = msgspec.convert(step, Before)
    return parsed


def parse_after(step: Any) -> After:
    parsed: After = msgspec.convert(step, After)
    return parsed


def as_declared(step: Before | After) -> Step:
    """The step as a manifest keeps it: every setting spelled out, so that another release's defaults change no version."""
    plain = {
        key: list(value) if isinstance(value, tuple) else value for key, value in msgspec.to_builtins(step).items() if value is not None
    }
    return Step(kind_of(step), {key: value for key, value in plain.items() if key != "step"})


def chains(before: tuple[Before, ...]) -> tuple[Chain, ...]:
    """The steps before a graph, source by source; they begin with one (convert/processing.py refuses what does not)."""
    starts = [place for place, step in enumerate(before) if isinstance(step, SOURCES)]
    ends = [*starts[1:], len(before)][: len(starts)]
    return tuple(Chain(before[start], before[start + 1 : end]) for start, end in zip(starts, ends, strict=True))  # type: ignore[arg-type]


def read_steps(processing: Processing) -> tuple[tuple[Chain, ...], tuple[After, ...]]:
    """What a manifest declares. Raises VersionError for what this release does not know."""
    try:
        before = tuple(parse_before({"step": step.kind, **step.settings}) for step in processing.before)
        after = tuple(parse_after({"step": step.kind, **step.settings}) for step in processing.after)
    except msgspec.ValidationError as error:
        raise VersionError(
            f"The version declares processing this Towline does not know: {error}.",
            code="BAD_PROCESSING",
            hint="It was written by another release. Import the model again.",
        ) from error
    return chains(before), after
