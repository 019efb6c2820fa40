"""Give a program the names that clients know: those of another server's configuration, where the model itself has none. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from towline.convert import wording
from towline.convert.torch.program import Program
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec


def names_in(options: Mapping[str, str], option: str) -> tuple[str, ...]:
    """The option `inputs` or `outputs`: names in order, separated by commas."""
    return tuple(name.strip() for name in options[option].split(",")) if options.get(option) else ()


def renamed(program: Program, options: Mapping[str, str]) -> Program:
    """The program under the names of the options `inputs` and `outputs`. Raises ImportRefused when there are more or fewer than it has."""
    inputs = _renamed(program.signature.inputs, names_in(options, "inputs"), "inputs")
    outputs = _renamed(program.signature.outputs, names_in(options, "outputs"), "outputs")
    names = [spec.name for spec in (*inputs, *outputs)]
    if len(set(names)) < len(names):
        raise _refused("names two of its tensors alike", "outputs")
    return replace(program, signature=Signature(inputs, outputs))


def _renamed(specs: tuple[TensorSpec, ...], names: Sequence[str], option: str) -> tuple[TensorSpec, ...]:
    if not names:
        return specs
    if len(names) != len(specs) or not all(names):
        raise _refused(f"has {len(names)} names for {len(specs)}: {', '.join(wording.name(spec.name) for spec in specs)}", option)
    return tuple(TensorSpec(name, spec.dtype, spec.shape) for name, spec in zip(names, specs, strict=True))


def _refused(what: str, option: str) -> ImportRefused:
    return ImportRefused(
        f"The option {option} {what}.", code="WRONG_NAMES", field=option, hint=f"Name each in order: --option {option}=FIRST,SECOND"
    )
