"""Check names, types and shapes against a signature before anything is allocated. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towline.core import dtypes
from towline.core.errors import InvalidRequest, Kind
from towline.core.manifest import Signature, TensorSpec
from towline.core.refs import clip

# What frames carry (core/frames.py), and what every engine can count in.
MAX_RANK = 16
MAX_DIM = (1 << 31) - 1

Dims = tuple[int | str, ...]


@dataclass(frozen=True)
class Limits:
    """Bounds on one request. `max_request_bytes` counts the body after decompression.

    `max_strings` bounds the elements of string tensors: each costs an object, whatever its length. `max_image_pixels` is width times
    height, as a picture's header tells them.
    """

    max_request_bytes: int = 64 << 20
    max_batch: int = 256
    max_strings: int = 500_000
    max_image_pixels: int = 64_000_000


def element_count(shape: Iterable[int]) -> int:
    """The product of the dims, in integers that cannot overflow."""
    count = 1
    for dim in shape:
        count *= dim
    return count


class InputCheck:
    """The shapes one signature takes, prepared once. `shapes` and `fields` are given in the signature's order of inputs."""

    def __init__(self, signature: Signature, limits: Limits) -> None:
        self._specs = signature.inputs
        self._limits = limits
        leading = {spec.shape[0] if spec.shape else None for spec in self._specs}
        only = next(iter(leading)) if len(leading) == 1 else None
        # The symbol all inputs begin with: the batch dim.
        self._batch = only if isinstance(only, str) else None
        first = self._specs[0].shape if len(self._specs) == 1 else None
        is_plain = self._batch is not None and first is not None and all(isinstance(dim, int) for dim in first[1:])
        # One input, [N, sizes...]: by far the most common signature, checked with one comparison.
        self.plain_tail = first[1:] if is_plain and first is not None else None

    @property
    def has_batch(self) -> bool:
        return self._batch is not None

    def rows(self, shapes: Sequence[tuple[int, ...]], fields: Sequence[str]) -> int:
        """The size of the batch dim, 1 when there is none. Raises InvalidRequest for a shape the signature does not take."""
        first = shapes[0] if shapes else ()
        # A scalar's tail is that of a list.
        if first and self.plain_tail is not None and first[1:] == self.plain_tail and 0 < first[0] <= self._limits.max_batch:
            return first[0]
        sizes: dict[str, tuple[int, str]] = {}
        for spec, shape, field in zip(self._specs, shapes, fields, strict=True):
            check_shape(spec, shape, field)
            _bind_symbols(spec, shape, field, sizes)
        if self._batch is None:
            return 1
        return self.check_rows(sizes[self._batch][0], fields[0])

    def check_rows(self, rows: int, field: str) -> int:
        """Refuse an empty batch and one above the limit."""
        if rows == 0:
            raise InvalidRequest("The batch is empty: at least one row is needed.", code="EMPTY_BATCH", field=field)
        if rows > self._limits.max_batch:
            raise batch_too_large(rows, self._limits.max_batch, field)
        return rows


def batch_too_large(rows: int, limit: int, field: str) -> InvalidRequest:
    return InvalidRequest(
        f"The batch has {rows} rows; the limit is {limit}.",
        code="BATCH_TOO_LARGE",
        kind=Kind.TOO_LARGE,
        field=field,
        hint=f"Send at most {limit} rows at a time.",
    )


def check_shape(spec: TensorSpec, shape: tuple[int, ...], field: str) -> None:
    """Rank, fixed dims and the bounds every tensor has."""
    if len(shape) > MAX_RANK:
        raise InvalidRequest(f"Input '{spec.name}' has rank {len(shape)}; the limit is {MAX_RANK}.", code="SHAPE_MISMATCH", field=field)
    for index, dim in enumerate(shape):
        if not 0 <= dim <= MAX_DIM:
            raise InvalidRequest(
                f"Dim {index} of input '{spec.name}' must be from 0 to {MAX_DIM}.", code="SHAPE_MISMATCH", field=f"{field}[{index}]"
            )
    if spec.shape is None:
        return
    fits = len(spec.shape) == len(shape) and all(isinstance(want, str) or want == got for want, got in zip(spec.shape, shape, strict=True))
    if not fits:
        raise InvalidRequest(
            f"Input '{spec.name}' takes shape {show_shape(spec.shape)}, got {show_shape(shape)}.", code="SHAPE_MISMATCH", field=field
        )


def _bind_symbols(spec: TensorSpec, shape: tuple[int, ...], field: str, sizes: dict[str, tuple[int, str]]) -> None:
    # The engine would broadcast 2 against 1 in silence and answer nonsense.
    for want, got in zip(spec.shape or (), shape, strict=False):
        if not isinstance(want, str):
            continue
        known, where = sizes.setdefault(want, (got, spec.name))
        if known != got:
            raise InvalidRequest(
                f"DIM_MISMATCH {want}: the dim must be equal everywhere, but it is {known} in '{where}' and {got} in '{spec.name}'.",
                code="DIM_MISMATCH",
                field=field,
            )


def check_names(given: Sequence[str], signature: Signature, field: str) -> None:
    """Each input of the signature exactly once, and nothing else."""
    wanted = [spec.name for spec in signature.inputs]
    seen: set[str] = set()
    for index, name in enumerate(given):
        if name in seen:
            raise InvalidRequest(f"Input '{clip(name)}' is given twice.", code="DUPLICATE_INPUT", field=f"{field}[{index}].name")
        seen.add(name)
        if name not in wanted:
            raise InvalidRequest(
                f"There is no input '{clip(name)}'. Inputs: {list_names(wanted)}.", code="UNKNOWN_INPUT", field=f"{field}[{index}].name"
            )
    missing = [name for name in wanted if name not in seen]
    if missing:
        raise InvalidRequest(f"Input {list_names(missing)} is missing. Inputs: {list_names(wanted)}.", code="MISSING_INPUT", field=field)


def check_datatype(spec: TensorSpec, given: str, field: str) -> None:
    """The v2 protocol's datatype must be the model's own: nothing is converted in silence."""
    wanted = dtypes.BY_NAME[spec.dtype].v2
    if given != wanted:
        raise InvalidRequest(
            f"Input '{spec.name}' takes datatype {wanted}, got '{clip(given, 32)}'.", code="DATATYPE_MISMATCH", field=field
        )


def check_string_count(count: int, limits: Limits, field: str) -> None:
    if count > limits.max_strings:
        raise InvalidRequest(
            f"The tensor has {count} strings; the limit is {limits.max_strings}.", code="TOO_MANY_STRINGS", kind=Kind.TOO_LARGE, field=field
        )


def show_shape(shape: Dims | tuple[int, ...]) -> str:
    shown = [str(dim) for dim in shape[:MAX_RANK]]
    return f"[{', '.join(shown)}{', …' if len(shape) > MAX_RANK else ''}]"


def list_names(names: Sequence[str]) -> str:
    """Names for an error message: the first few, each clipped."""
    shown = ", ".join(f"'{clip(name)}'" for name in names[:8])
    return shown + (f" and {len(names) - 8} more" if len(names) > 8 else "")
