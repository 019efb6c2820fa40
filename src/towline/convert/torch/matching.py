"""Say why weights do not fit an architecture: which names and shapes differ, and what is the likely cause. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from towline.convert import wording
from towline.convert.torch.architectures import likely
from towline.convert.torch.unwrapping import COUNTERS
from towline.core.errors import ImportRefused

Shapes = Mapping[str, tuple[int, ...]]
_SHOWN = 3


def check_fits(expected: Shapes, found: Shapes, architecture: str) -> None:
    """Raise ImportRefused unless the weights have exactly the names and shapes of the architecture; counters may be missing."""
    missing = [name for name in expected if name not in found and not name.endswith(COUNTERS)]
    unexpected = [name for name in found if name not in expected and not name.endswith(COUNTERS)]
    reshaped = [name for name in expected if name in found and expected[name] != found[name]]
    if not (missing or unexpected or reshaped):
        return
    faults = [
        *_listed("lack", missing),
        *_listed("have also", unexpected),
        *(f"{wording.name(name)} is {_shape(found[name])}, expected {_shape(expected[name])}" for name in reshaped[:_SHOWN]),
    ]
    if len(reshaped) > _SHOWN:
        faults.append(f"{len(reshaped) - _SHOWN} more shapes differ")
    raise ImportRefused(
        f"The weights are not those of {architecture}: they {_joined(faults)}.",
        code="WEIGHTS_MISMATCH",
        field="arch",
        hint=_cause(expected, found, missing, unexpected, reshaped),
    )


def _listed(verb: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{verb} " + ", ".join(map(wording.name, names[:_SHOWN])) + more]


def _joined(faults: Sequence[str]) -> str:
    """The shapes' faults are sentences of their own, so that they follow after a colon."""
    verbs = [fault for fault in faults if fault.startswith(("lack", "have"))]
    rest = [fault for fault in faults if fault not in verbs]
    said = "; ".join(verbs)
    return said + ("; " if said and rest else "") + ("have other shapes: " + "; ".join(rest) if rest else "")


def _shape(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _cause(expected: Shapes, found: Shapes, missing: Sequence[str], unexpected: Sequence[str], reshaped: Sequence[str]) -> str:
    same = len(set(expected) & set(found))
    if not missing and not unexpected and reshaped:
        last = list(expected)[-2:]
        if set(reshaped) <= set(last) and expected[reshaped[0]] and found[reshaped[0]]:
            ours, theirs = expected[reshaped[0]][0], found[reshaped[0]][0]
            differs = f"The number of classes differs: {theirs} in the weights, {ours} in the code."
            return f"{differs} Give it: --arch 'FILE:Class(num_classes={theirs})'."
        return "The architecture is the right one with other sizes: give them, as in --arch 'FILE:Class(width=128)'."
    if same == 0 and missing and unexpected:
        guess = likely(found)
        if guess is not None:
            return f"From their names they are those of {guess.what}. {guess.command_hint()}"
        return "No name agrees: the file belongs to another architecture, or its names have a prefix that is not known."
    if unexpected and not missing:
        return "The code lacks layers that the weights have: give the class with the same settings as in training."
    if missing and not unexpected:
        return "The file does not hold the whole model, or the class has layers that were not there in training."
    return "Give the class with the same settings, and of the same release, as in training."
