"""Decide which rows of unlike length share a run, and to which length they are padded. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from towline.core import dtypes
from towline.core.manifest import Manifest

# What a request's inputs look like without their rows: the group of a job (admission.group_of).
Group = tuple[tuple[int, ...], ...]
Lengths = tuple[int, ...]
# Steps between two powers of two: the fewer, the fewer shapes an engine sees; the more, the less is padded.
STEPS = 4
# Shorter steps gain nothing: kernels take so many elements at a time.
LEAST_STEP = 8
# Of what is run, each row's own part is at least this: nobody's long row makes others' much longer.
LEAST_SHARE = 0.5
_REMEMBERED_SHAPES = 4096


def bucket(length: int, longest: int) -> int:
    """The length to which rows are padded whose longest has `length`, from 1: never beyond `longest`.

    Up to 8 the next power of two; from there the next multiple of 8, or of an eighth of the next power of two where that is more. Up to
    512 elements these are 23 lengths, and no row of the greatest length grows by more than a quarter, or by 7 elements.
    """
    power = 1 << (length - 1).bit_length()
    step = max(LEAST_STEP, power // (2 * STEPS))
    return min(power if length <= LEAST_STEP else -(-length // step) * step, longest)


@dataclass(frozen=True)
class _Dim:
    """`places` are the inputs that have it, by number, each with the axis behind the rows."""

    places: tuple[tuple[int, int], ...]
    shortest: int
    longest: int


class Shape(NamedTuple):
    """What is to be known of a group: how long each dim is, all that has to be equal in a run, and the bytes of a row that may grow."""

    lengths: Lengths
    rest: Group
    row_bytes: int


class Plan:
    """What a manifest allows to be padded, prepared once. `values` are by input, `cuts` by output: axis and number of the dim."""

    def __init__(self, manifest: Manifest) -> None:
        inputs = manifest.signature.inputs
        numbers = {spec.name: number for number, spec in enumerate(inputs)}
        self._dims = tuple(
            _Dim(tuple((numbers[one.name], one.axis - 1) for one in padding.inputs), padding.shortest, padding.longest)
            for padding in manifest.padding
        )
        self.values = {one.name: one.value for padding in manifest.padding for one in padding.inputs}
        self.cuts: dict[str, dict[int, int]] = {}
        for number, padding in enumerate(manifest.padding):
            for one in padding.outputs:
                self.cuts.setdefault(one.name, {})[one.axis] = number
        self._item_bytes = {numbers[name]: dtypes.BY_NAME[inputs[numbers[name]].dtype].size for name in self.values}
        # Clients send few shapes, and every look at a job asks for one of them.
        self._shapes: dict[Group, Shape] = {}

    def shape(self, group: Group) -> Shape:
        found = self._shapes.get(group)
        if found is None:
            if len(self._shapes) >= _REMEMBERED_SHAPES:
                self._shapes.clear()
            lengths = tuple(group[number][axis] for number, axis in (dim.places[0] for dim in self._dims))
            # Dims without a name may differ where they were shown together: such rows share a run with their like alone.
            is_even = self.stretched(group, lengths) == group
            rest = self.stretched(group, (-1,) * len(self._dims)) if is_even else group
            row_bytes = sum(math.prod(group[number]) * size for number, size in self._item_bytes.items())
            found = self._shapes[group] = Shape(lengths, rest, row_bytes)
        return found

    def stretched(self, group: Group, lengths: Lengths) -> Group:
        """The same shapes with other lengths."""
        shapes = [list(shape) for shape in group]
        for dim, length in zip(self._dims, lengths, strict=True):
            for number, axis in dim.places:
                shapes[number][axis] = length
        return tuple(tuple(shape) for shape in shapes)

    def common(self, least: Lengths, most: Lengths, up_to: int) -> Lengths | None:
        """The lengths of a run whose rows have from `least` to `most`, or None where that is more than was shown, or than pays."""
        found = []
        for dim, low, high in zip(self._dims, least, most, strict=True):
            longest = min(dim.longest, up_to)
            if low != high and not dim.shortest <= low < high <= longest:
                return None
            found.append(high if low == high else bucket(high, longest))
        return tuple(found)


class Mix:
    """The rows of one run while they are gathered: all alike, or padded to `group` as soon as they are not."""

    def __init__(self, plan: Plan, group: Group, rows: int, nbytes: int, *, up_to: int) -> None:
        self.group = group
        self.rows = rows
        self.nbytes = nbytes
        self.is_padded = False
        shape = plan.shape(group)
        self._plan = plan
        self._up_to = up_to
        self._rest = shape.rest
        self._least = self._most = shape.lengths
        self._smallest_bytes = shape.row_bytes
        # Of the rows as they came, in those inputs that are padded; and with all else that was sent.
        self._own_bytes = rows * shape.row_bytes
        self._sent_bytes = nbytes

    def take(self, group: Group, rows: int, nbytes: int, *, max_rows: int, max_bytes: int) -> bool:
        """Let these rows in, if they and those that are in lose little by it. `nbytes` is what they are without padding."""
        plan = self._plan
        lengths, rest, own_row_bytes = plan.shape(group)
        if self.rows + rows > max_rows or rest != self._rest:
            return False
        least, most = tuple(map(min, self._least, lengths)), tuple(map(max, self._most, lengths))
        common = plan.common(least, most, self._up_to)
        if common is None:
            return False
        stretched = plan.stretched(group, common) if least != most else group
        row_bytes, smallest_bytes = plan.shape(stretched).row_bytes, min(self._smallest_bytes, own_row_bytes)
        own_bytes, sent_bytes = self._own_bytes + rows * own_row_bytes, self._sent_bytes + nbytes
        filled_bytes = sent_bytes + (self.rows + rows) * row_bytes - own_bytes
        if smallest_bytes < LEAST_SHARE * row_bytes or filled_bytes > max_bytes:
            return False
        self.group, self.rows, self.nbytes, self.is_padded = stretched, self.rows + rows, filled_bytes, least != most
        self._least, self._most, self._smallest_bytes = least, most, smallest_bytes
        self._own_bytes, self._sent_bytes = own_bytes, sent_bytes
        return True

    @property
    def padding_share(self) -> float:
        """Of the elements of the padded inputs."""
        whole_bytes = self.rows * self._plan.shape(self.group).row_bytes
        return 1 - self._own_bytes / whole_bytes if whole_bytes else 0.0


def cut_lengths(plan: Plan, output: str, lengths: Lengths) -> Mapping[int, int]:
    """By axis of an output, how much of it belongs to a row of these lengths."""
    return {axis: lengths[number] for axis, number in plan.cuts.get(output, {}).items()}
