"""How far a converted model's answer may lie from its source's, by dtype, as a share of what the output usually is. Pure.

The numbers are derived, not tuned: docs/reference/parity.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from towline.core import dtypes
from towline.core.errors import UsageError
from towline.core.manifest import Bound, Signature

# Of an output's magnitude. Rounding errors of n terms walk at random, so they grow as sqrt(n): with a million terms (2^20) on the way to
# an output, by 2^10 units of 2^-24 in float32. In float16 sums are kept in float32 and only what is stored is rounded, by 2^-11: sixteen
# such units are a walk over 256 layers. In float64 three bits are to spare, because libraries approximate exp and erf of it differently.
SHARES = {"float16": 2.0**-7, "float32": 2.0**-14, "float64": 2.0**-40}
# Two steps of 128: a rounding error tips an 8-bit value over to the next one, and a later layer may do so once more.
QUANTISED_SHARE = 2.0**-6
_STEP = 1.0
# Beside a source that answers nothing but zero, where a share of the magnitude is nothing.
_FLOORS = {"float16": 2.0**-24, "float32": 2.0**-40, "float64": 2.0**-80}
_EXACT = Bound(absolute=0.0, relative=0.0)


@dataclass(frozen=True)
class Tolerance:
    """By output: |converted - source| <= absolute + relative * magnitude, with the magnitude of the whole output, not of one element."""

    limits: Mapping[str, Bound]

    def of(self, output: str) -> Bound:
        """Exact for an output that the signature does not know."""
        return self.limits.get(output, _EXACT)


def tolerance_for(signature: Signature, *, tightened: float | None = None, quantised: bool = False) -> Tolerance:
    """The limits of each output of `signature`. `tightened` is a share of the magnitude that holds where it is less than the dtype's own;
    `quantised`: on either side values are rounded to 8 bits within the graph.

    Raises UsageError when `tightened` would loosen: what a dtype cannot explain is a wrong conversion, whoever allows it.
    """
    limits = {spec.name: _limit(spec.dtype, quantised=quantised) for spec in signature.outputs}
    if tightened is None:
        return Tolerance(limits)
    widest = max((limits[spec.name].relative for spec in signature.outputs), default=0.0)
    if not math.isfinite(tightened) or tightened < 0 or tightened > widest > 0:
        raise UsageError(
            f"--tolerance {tightened:g} is not between 0 and {widest:.2g}, which is what rounding alone can do to this model.",
            code="BAD_TOLERANCE",
            field="tolerance",
            hint="It can only be tightened; leave it out for the limit of each dtype.",
        )
    return Tolerance({name: _tighter(limit, tightened) for name, limit in limits.items()})


def _limit(dtype: str, *, quantised: bool) -> Bound:
    if dtype in SHARES:
        return Bound(absolute=_FLOORS[dtype], relative=max(SHARES[dtype], QUANTISED_SHARE) if quantised else SHARES[dtype])
    is_byte = dtypes.BY_NAME[dtype].size == 1 and dtypes.BY_NAME[dtype].is_integer
    return Bound(absolute=_STEP, relative=0.0) if quantised and is_byte else _EXACT


def _tighter(limit: Bound, share: float) -> Bound:
    if not limit.relative:
        return limit
    return Bound(absolute=min(limit.absolute, share), relative=min(limit.relative, share))
