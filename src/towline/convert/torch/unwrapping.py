"""Find the weights in a checkpoint: out of the dicts around them, and under the names that the architecture uses. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

# Where training code keeps the weights, the plain ones before their running average.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "generator",
    "encoder",
    "state_dict_ema",
    "ema_state_dict",
    "model_ema",
    "params_ema",
    "ema",
)
# What DataParallel, torch.compile, Lightning and others put before every name.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.", "_model.", "student.")
# Counters, not weights: an old checkpoint has fewer, an averaged one more.
COUNTERS = ("num_batches_tracked", "n_averaged")
_MAX_DEPTH = 4
_MAX_NAMES = 200_000


@dataclass(frozen=True)
class Unwrapped:
    """`tensors` by name; `notes` are sentences for the report."""

    tensors: dict[str, Any]
    notes: tuple[str, ...] = ()


def unwrap(root: Any, is_tensor: Callable[[Any], bool]) -> Unwrapped | None:
    """The weights in what a checkpoint holds, or None where there are none."""
    path: list[str] = []
    notes: list[str] = []
    value = root
    while isinstance(value, Mapping) and len(path) < _MAX_DEPTH:
        if any(is_tensor(inner) for inner in value.values()):
            tensors = {str(name): inner for name, inner in value.items() if is_tensor(inner)}
            return Unwrapped(tensors, (*_path_note(path), *notes))
        # Some libraries keep a dict per part of the model.
        parts = {str(name): inner for name, inner in value.items() if _is_flat(inner, is_tensor)}
        found = [name for name in WRAPPERS if name in value and _holds(value[name], is_tensor)]
        if not found and parts and len(parts) == len(value):
            joined = {f"{part}.{name}": tensor for part, inner in parts.items() for name, tensor in inner.items() if is_tensor(tensor)}
            return Unwrapped(
                joined, (*_path_note(path), *notes, f"The checkpoint keeps its parts apart: {_some(parts)}; they were joined.")
            )
        if not found:
            return None
        if len(found) > 1:
            notes.append(f"The checkpoint also holds weights as {_some(found[1:])}; those of '{found[0]}' were taken.")
        path.append(found[0])
        value = value[found[0]]
    return None


def _path_note(path: list[str]) -> tuple[str, ...]:
    inside = "".join(f"['{name}']" for name in path)
    return (f"The weights were taken from checkpoint{inside}.",) if path else ()


def _is_flat(value: Any, is_tensor: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(is_tensor(inner) for inner in value.values())


def _holds(value: Any, is_tensor: Callable[[Any], bool], depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or depth == _MAX_DEPTH or len(value) > _MAX_NAMES:
        return False
    return any(is_tensor(inner) or _holds(inner, is_tensor, depth + 1) for inner in list(value.values())[:1000])


def without_prefix(names: Collection[str]) -> str:
    """What every one of these names begins with and that wrappers are known to put there; may be several, joined."""
    prefix = ""
    rest = [name for name in names if name not in COUNTERS]
    while found := next((one for one in PREFIXES if rest and all(name.startswith(one) for name in rest)), ""):
        prefix += found
        rest = [name[len(found) :] for name in rest]
    return prefix


def renamed(tensors: Mapping[str, Any], expected: Collection[str]) -> Unwrapped:
    """The weights under the names that the architecture expects, where taking away a common prefix, or adding one, gives more of them."""
    wanted = set(expected)
    candidates: dict[str, Callable[[str], str]] = {"": str}
    taken = ""
    for _ in range(_MAX_DEPTH):
        found = next((one for one in PREFIXES if all(n.startswith(taken + one) for n in tensors if n not in COUNTERS)), "")
        if not found:
            break
        taken += found
        candidates[f"'{taken}' was taken from the front of every name of the weights."] = _cutter(taken)
    for prefix in PREFIXES:
        candidates[f"'{prefix}' was put before every name of the weights."] = _adder(prefix)
    note, rename = max(candidates.items(), key=lambda one: len(wanted.intersection(map(one[1], tensors))))
    kept = {rename(name): tensor for name, tensor in tensors.items()}
    return Unwrapped(kept, (note,) if note else ())


def _cutter(prefix: str) -> Callable[[str], str]:
    return lambda name: name.removeprefix(prefix)


def _adder(prefix: str) -> Callable[[str], str]:
    return lambda name: prefix + name


def _some(names: Collection[str]) -> str:
    quoted = [f"'{name}'" for name in list(names)[:3]]
    return ", ".join(quoted) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
