"""Decide whether a loaded version still answers its golden requests as it did at import. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from towline.core import dtypes
from towline.core.frames import pack_strings
from towline.core.manifest import Bound

# Another kind of CPU may choose kernels that round otherwise: where there is no top-1 to compare, answers may differ by
# this share of the output's greatest magnitude. An 8-bit model moves by about one step in 128.
OTHER_CPU_SHARE = 1 / 64
_EXACT = Bound(absolute=0.0, relative=0.0)


@dataclass(frozen=True)
class Verdict:
    """`ok`, or why not: one sentence that names the output."""

    ok: bool
    why: str = ""


def compare_golden(
    golden: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    bounds: Mapping[str, Bound],
    *,
    deterministic: bool,
    same_cpu: bool,
) -> Verdict:
    """Compare one answer with the golden one, by output name.

    Same kind of CPU as at import: within the recorded bounds. Another kind: top-1 agrees (last axis, floats of rank 2 and more).
    Integers and strings are exact on both. A version whose answers are not deterministic: shape, dtype and finiteness.
    """
    for name, expected in golden.items():
        if name not in got:
            return Verdict(False, f"output '{name}' is missing")
        why = _difference(expected, np.asarray(got[name]), bounds.get(name, _EXACT), deterministic=deterministic, same_cpu=same_cpu)
        if why:
            return Verdict(False, f"output '{name}' {why}")
    return Verdict(True)


def _difference(golden: np.ndarray, got: np.ndarray, bound: Bound, *, deterministic: bool, same_cpu: bool) -> str:
    """What is wrong with one output, or nothing."""
    dtype = dtypes.of_array(golden)
    if dtype is None or dtypes.of_array(got) != dtype:
        return f"is {got.dtype}, expected {dtype.name if dtype else golden.dtype}"
    if not deterministic:
        # The size of an answer that is drawn anew may be drawn too; its rank may not.
        return f"has rank {got.ndim}, expected {golden.ndim}" if got.ndim != golden.ndim else _not_finite(golden, got, dtype)
    if got.shape != golden.shape:
        return f"has shape {list(got.shape)}, expected {list(golden.shape)}"
    if not dtype.size:
        return "" if pack_strings(golden) == pack_strings(got) else "holds other strings than at import"
    if not dtype.is_float:
        return "" if np.array_equal(golden, got) else f"differs in {int((golden != got).sum())} of {golden.size} elements"
    return _float_difference(golden.astype(np.float64), got.astype(np.float64), bound, same_cpu=same_cpu)


def _not_finite(golden: np.ndarray, got: np.ndarray, dtype: dtypes.DType) -> str:
    if dtype.is_float and np.isfinite(golden).all() and not np.isfinite(got).all():
        return "is not finite, as it was at import"
    return ""


def _float_difference(golden: np.ndarray, got: np.ndarray, bound: Bound, *, same_cpu: bool) -> str:
    finite = np.isfinite(golden)
    if not np.array_equal(finite, np.isfinite(got)) or not np.array_equal(golden[~finite], got[~finite], equal_nan=True):
        return "has NaN or infinity in other places than at import"
    golden, got = np.where(finite, golden, 0.0), np.where(finite, got, 0.0)
    allowed = bound.absolute + bound.relative * np.abs(golden)
    if same_cpu:
        gap = np.abs(golden - got)
        return f"differs by up to {gap.max():.3g} where {_at(allowed, gap):.3g} is allowed" if (gap > allowed).any() else ""
    if golden.ndim >= 2 and golden.shape[-1] > 1:
        return _other_top1(golden, got, allowed)
    loose = OTHER_CPU_SHARE * np.abs(golden).max(initial=0.0) + bound.absolute
    gap = np.abs(golden - got).max(initial=0.0)
    return f"differs by up to {gap:.3g} where {loose:.3g} is allowed on another kind of CPU" if gap > loose else ""


def _at(allowed: np.ndarray, gap: np.ndarray) -> float:
    """What is allowed where the gap is widest."""
    return float(allowed.reshape(-1)[int(gap.argmax())])


def _other_top1(golden: np.ndarray, got: np.ndarray, allowed: np.ndarray) -> str:
    """Rows whose greatest element is another one. A tie within the bound is no disagreement."""
    if golden.size == 0:
        return ""
    best = golden.max(axis=-1)
    chosen = got.argmax(axis=-1)[..., None]
    at_chosen = np.take_along_axis(golden, chosen, axis=-1)[..., 0]
    slack = 2 * np.take_along_axis(allowed, chosen, axis=-1)[..., 0]
    wrong = int((at_chosen < best - slack).sum())
    return f"has another top-1 in {wrong} of {best.size} rows" if wrong else ""
