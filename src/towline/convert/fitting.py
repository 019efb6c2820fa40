"""Fit one chain of steps to the graph's input it feeds: fill in what is left open, refuse what contradicts its shape or dtype. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from towline.convert.declaration import refused
from towline.core import dtypes, steps
from towline.core.manifest import TensorSpec
from towline.core.steps import After, Chain, Source, kind_of

# What the first step after the graph needs, where it is not [N, classes] or more.
_NEEDED = {steps.Pool: ("[N, tokens, width]", 3), steps.Segment: ("[N, classes, height, width]", 4)}
# What a chain may end in, by rank of the graph's input: letters after N.
_IMAGE_ORDERS = ("CHW", "HWC")
_SAMPLE_ORDERS = ("T", "TC", "CT")
_MEL_ORDERS = ("FT", "TF", "CFT", "CTF", "FTC", "TFC")
_PADDED_TO = 8


def feeds(source: Source) -> tuple[str, ...]:
    """The graph's inputs that a fitted chain fills."""
    if isinstance(source, steps.Text):
        return tuple(name for name in (source.ids, source.mask, source.types) if name)
    return (source.into,)


def image(chain: Chain, into: TensorSpec, at: Sequence[int]) -> Chain:
    source = chain.source
    assert isinstance(source, steps.Image)
    channels = 1 if source.colour == "grey" else 3
    size: tuple[int, int] | None = None
    for step, line in zip(chain.steps, at[1:], strict=True):
        if isinstance(step, steps.Resize):
            _check_resize(step, line)
            size = (step.width, step.height) if step.width else None
        elif isinstance(step, steps.Crop | steps.Pad):
            size = (step.width, step.height)
    _check_normalise(chain, into, channels, at)
    sizes = {"C": channels, "W": size[0] if size else None, "H": size[1] if size else None}
    return _with_layout(chain, into, _IMAGE_ORDERS, sizes, at)


def audio(chain: Chain, into: TensorSpec, at: Sequence[int]) -> Chain:
    rate, samples = 0, None
    mels: steps.Mel | None = None
    fitted = []
    for step, line in zip(chain.steps, at[1:], strict=True):
        if isinstance(step, steps.Resample | steps.Fit) and mels is not None:
            raise refused(f"'{kind_of(step)}' works on samples: put it before 'mel'", line)
        if isinstance(step, steps.Resample):
            rate = step.rate
        elif isinstance(step, steps.Fit):
            samples = step.samples
        elif isinstance(step, steps.Mel):
            step = mels = _mel(step, rate, line)
        fitted.append(step)
    chain = replace(chain, steps=tuple(fitted))
    _check_normalise(chain, into, mels.mels if mels else 1, at)
    if mels is None:
        return _with_layout(chain, into, _SAMPLE_ORDERS, {"C": 1, "T": samples}, at)
    frames = _frames(mels, samples) if samples else None
    return _with_layout(chain, into, _MEL_ORDERS, {"C": 1, "F": mels.mels, "T": frames}, at)


def text(source: steps.Text, free: Sequence[TensorSpec], line: int) -> Chain:
    whole = {spec.name: spec for spec in free if dtypes.BY_NAME[spec.dtype].is_integer}
    ids = source.ids or ("input_ids" if "input_ids" in whole else next(iter(whole), "") if len(whole) == 1 else "")
    found = {
        "ids": ids,
        "mask": source.mask or ("attention_mask" if "attention_mask" in whole else ""),
        "types": source.types or ("token_type_ids" if "token_type_ids" in whole else ""),
    }
    for setting, name in found.items():
        if (name or setting == "ids") and name not in whole:
            have = ", ".join(f"'{one}'" for one in whole) or "none"
            raise refused(f"{setting} = '{name}' names no input of whole numbers that is free; the graph has {have}", line)
    step = source.pad_to_multiple_of or (_PADDED_TO if found["mask"] else 1)
    settings: dict[str, object] = {**found, "pad_to_multiple_of": step}
    length = (whole[ids].shape or ())[1:]
    if len(length) != 1:
        raise refused(f"input '{ids}' of the graph has shape {list(whole[ids].shape or ())}; token ids need [N, tokens]", line)
    if isinstance(length[0], int):
        # A graph of fixed length: every text is cut or padded to it.
        settings |= {"max_length": length[0], "padding": "max_length"}
    return Chain(msgspec.structs.replace(source, **settings), ())


def tabular(chain: Chain, into: TensorSpec, at: Sequence[int]) -> Chain:
    source = chain.source
    assert isinstance(source, steps.Tabular)
    if len(set(source.columns)) != len(source.columns):
        raise refused("a column is named twice", at[0])
    words = {step.column: step for step in chain.steps if isinstance(step, steps.Category)}
    for step, line in zip(chain.steps, at[1:], strict=True):
        named = (
            step.columns if isinstance(step, steps.Standardise) else (step.column,) if isinstance(step, steps.Fill | steps.Category) else ()
        )
        unknown = [name for name in named if name not in source.columns]
        if unknown:
            raise refused(f"'{kind_of(step)}' names '{unknown[0]}', which is no column; there are {', '.join(source.columns)}", line)
        _check_column(step, words, line)
    _check_float(into, at[0])
    features = sum(len(words[name].values) if name in words and words[name].encode == "one_hot" else 1 for name in source.columns)
    shape = into.shape or ()
    if len(shape) != 2 or (isinstance(shape[1], int) and shape[1] != features):
        raise refused(f"the columns make [N, {features}], but input '{into.name}' of the graph takes {_words(into)}", at[0])
    return replace(chain, source=msgspec.structs.replace(source, into=into.name))


def check_output(after: Sequence[After], of: TensorSpec, at: Sequence[int]) -> None:
    """Scores need [N, classes] floats, pooling [N, tokens, width], pixels [N, classes, height, width]."""
    if not dtypes.BY_NAME[of.dtype].is_float:
        raise refused(f"output '{of.name}' of the graph is {of.dtype}; the steps after it need floats", at[0])
    need, rank = _NEEDED.get(type(after[0]), ("[N, classes]", 0))
    if of.shape is not None and (len(of.shape) != rank if rank else len(of.shape) < 2):
        raise refused(f"output '{of.name}' of the graph is {_words(of)}; '{kind_of(after[0])}' needs {need}", at[0])


def _check_column(step: steps.Before, words: dict[str, steps.Category], line: int) -> None:
    if isinstance(step, steps.Standardise):
        if not len(step.columns) == len(step.mean) == len(step.std):
            raise refused(f"'standardise' has {len(step.columns)} columns, {len(step.mean)} means and {len(step.std)} stds", line)
        wrong = [name for name in step.columns if name in words]
        if wrong:
            raise refused(f"'{wrong[0]}' is a column of words and cannot be standardised", line)
    if isinstance(step, steps.Fill):
        if (step.number is None) == (step.word is None):
            raise refused("'fill' takes either a number or a word", line)
        if (step.word is not None) != (step.column in words):
            what = "a word" if step.column in words else "a number"
            raise refused(f"column '{step.column}' is filled with {what}", line)


def _check_resize(step: steps.Resize, line: int) -> None:
    ways = [bool(step.shorter), bool(step.longer), bool(step.width or step.height)]
    if sum(ways) != 1 or bool(step.width) != bool(step.height):
        raise refused("'resize' takes shorter, or longer, or width and height", line)


def _check_normalise(chain: Chain, into: TensorSpec, channels: int, at: Sequence[int]) -> None:
    for step, line in zip(chain.steps, at[1:], strict=True):
        if isinstance(step, steps.Normalise):
            _check_float(into, line)
            for setting, values in (("mean", step.mean), ("std", step.std)):
                if len(values) not in (1, channels):
                    raise refused(f"'normalise' has {len(values)} values in {setting}; expected 1 or {channels}", line)


def _check_float(into: TensorSpec, line: int) -> None:
    if not dtypes.BY_NAME[into.dtype].is_float:
        raise refused(f"input '{into.name}' of the graph is {into.dtype}, which takes no fractions", line)


def _mel(step: steps.Mel, rate: int, line: int) -> steps.Mel:
    if not rate:
        raise refused("'mel' needs 'resample' before it, which says how many samples a second has", line)
    top = step.max_frequency or rate / 2
    if not step.min_frequency < top <= rate / 2:
        raise refused(f"'mel' goes from {step.min_frequency:g} to {top:g} Hz; expected rising, up to {rate / 2:g} Hz", line)
    if (step.window or step.fft) > step.fft:
        raise refused(f"the window of 'mel' has {step.window} samples, more than its transform of {step.fft}", line)
    return msgspec.structs.replace(step, rate=rate, max_frequency=top, window=step.window or step.fft)


def _frames(step: steps.Mel, samples: int) -> int:
    return 1 + samples // step.hop if step.centre else 1 + max(samples - step.fft, 0) // step.hop


def _with_layout(chain: Chain, into: TensorSpec, orders: Sequence[str], sizes: dict[str, int | None], at: Sequence[int]) -> Chain:
    """The chain with its layout spelled out: as declared, or the only one that the graph's shape allows."""
    shape = into.shape or ()
    declared = next(((step.order, line) for step, line in zip(chain.steps, at[1:], strict=True) if isinstance(step, steps.Layout)), None)
    given, line = declared or (None, at[0])
    if given is not None and given[1:] not in orders:
        raise refused(f"layout '{given}' fits nothing here; there are {', '.join('N' + order for order in orders)}", line)
    fitting = [order for order in ([given[1:]] if given else orders) if _fits(order, shape[1:], sizes)]
    if not fitting:
        made = " or ".join(f"[N, {', '.join(str(sizes[axis] or axis) for axis in order)}]" for order in ([given[1:]] if given else orders))
        raise refused(f"the steps make {made}, but input '{into.name}' of the graph takes {_words(into)}", line)
    # A dim that is the very number the steps make tells more than one that is left open.
    certain = {order: sum(sizes[axis] == dim for axis, dim in zip(order, shape[1:], strict=True)) for order in fitting}
    fitting = [order for order in fitting if certain[order] == max(certain.values())]
    if len(fitting) > 1:
        raise refused(f"input '{into.name}' of the graph is {_words(into)}: say which axis is which: step = \"layout\", order = …", line)
    others = tuple(step for step in chain.steps if not isinstance(step, steps.Layout))
    source = msgspec.structs.replace(chain.source, into=into.name)
    return Chain(source, (*others, steps.Layout(order=f"N{fitting[0]}")))


def _fits(order: str, dims: Sequence[int | str], sizes: dict[str, int | None]) -> bool:
    if len(order) != len(dims):
        return False
    return all(isinstance(dim, str) or sizes[axis] in (None, dim) for axis, dim in zip(order, dims, strict=True))


def _words(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape or ('…',)))}]"
