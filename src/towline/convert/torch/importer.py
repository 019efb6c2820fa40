"""The importer of PyTorch: TorchScript, programs of torch.export, weights with their code, and pickled modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from towline.convert import wording
from towline.convert.arch import parse_arch
from towline.convert.base import Source, Task
from towline.convert.declared_inputs import BATCH, parse_inputs
from towline.convert.torch.checkpoint import load_model, widened
from towline.convert.torch.exported import bound_like, exported_inputs, load_exported
from towline.convert.torch.guesses import guesses, known_names, parameter_names
from towline.convert.torch.probing import probe, replace_dims
from towline.convert.torch.program import Program, bound_by_name
from towline.convert.torch.renaming import names_in, renamed
from towline.convert.torch.source import TorchSource
from towline.core.errors import ImportRefused
from towline.core.manifest import TensorSpec

_OPTIONS = ("arch", "input", "inputs", "outputs")


@dataclass(frozen=True)
class _Read:
    model: nn.Module
    architecture: str
    notes: tuple[str, ...] = ()


class TorchImporter:
    name = "torch"
    environment = "torch"

    def load(self, task: Task) -> Source:
        unknown = [option for option in task.options if option not in _OPTIONS]
        if unknown:
            raise ImportRefused(
                f"PyTorch models have no option {wording.name(unknown[0])}; there is {', '.join(_OPTIONS)}.", code="UNKNOWN_OPTION"
            )
        given = task.options.get("input", "")
        if task.kind == "torch_export":
            _without_fast_path()
            return _exported(task.source, given, task.options)
        read = _script(task) if task.kind == "torchscript" else _module(task)
        return source_of_module(read.model, architecture=read.architecture, options=task.options, notes=read.notes)


def source_of_module(model: nn.Module, *, architecture: str, options: Mapping[str, str], notes: tuple[str, ...] = ()) -> TorchSource:
    """`model` is put into inference mode. Of `options` those that name inputs and outputs. Raises ImportRefused."""
    _without_fast_path()
    said = list(notes)
    model = _in_inference(model, said)
    given = options.get("input", "")
    program = _said(model, given, names_in(options, "inputs"), said) if given else _guessed(model, said)
    return TorchSource(renamed(program, options), architecture=architecture, notes=tuple(said))


def _without_fast_path() -> None:
    """A fused kernel for transformers in inference, which neither exporter knows."""
    torch.backends.mha.set_fastpath_enabled(False)


def _exported(source: Path, given: str, options: Mapping[str, str]) -> Source:
    exported = load_exported(source)
    notes = ("What the model takes is that of its own export; the option input was not needed.",) if given else ()
    program, found = probe(exported.module(), bound_like(exported), exported_inputs(exported))
    named = Program(program.flat, program.signature, exported)
    return TorchSource(renamed(named, options), architecture="torch.export", notes=(*notes, *found))


def _script(task: Task) -> _Read:
    if "arch" in task.options:
        raise ImportRefused("A TorchScript model brings its own code.", code="UNKNOWN_OPTION", field="arch", hint="Leave --arch away.")
    try:
        model = torch.jit.load(str(task.source), map_location="cpu")
    except (RuntimeError, ValueError, OSError) as error:
        said = wording.sentence(str(error).strip().partition("\n")[0], hidden=(str(task.source.parent),))
        raise ImportRefused(
            f"The TorchScript model cannot be read: {said}", code="TORN_FILE", hint="Save it again: model.save(FILE)."
        ) from error
    return _Read(model, str(model.original_name))


def _module(task: Task) -> _Read:
    arch = parse_arch(task.options["arch"]) if task.options.get("arch") else None
    model, notes = load_model(task.source, task.kind, arch)
    return _Read(model, type(model).__name__, notes)


def _in_inference(model: nn.Module, notes: list[str]) -> nn.Module:
    """Dropout off, batch norm with its kept statistics, and nothing narrower than float32."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    notes_of_width = widened(value for value in model.state_dict().values() if isinstance(value, torch.Tensor))
    if notes_of_width:
        model.float()
        notes.extend(notes_of_width)
    return model


def _said(model: nn.Module, given: str, names: Sequence[str], notes: list[str]) -> Program:
    """`names` are the inputs' names for clients; where they are parameters of `forward`, they say which input is which."""
    known = known_names(model)
    given_specs = parse_inputs(given)
    if any(spec.dtype == "string" for spec in given_specs):
        raise ImportRefused(
            "PyTorch has no tensors of strings.", code="WRONG_INPUT", field="input", hint="Give the numbers that forward takes."
        )
    if known is not None and len(names) == len(given_specs) and set(names) <= set(known):
        given_specs = tuple(TensorSpec(name, spec.dtype, spec.shape) for name, spec in zip(names, given_specs, strict=True))
    specs = _named(given_specs, parameter_names(model), known)
    program, found = probe(model, bound_by_name([spec.name for spec in specs], known), specs)
    notes.extend(found)
    return program


def _named(specs: tuple[TensorSpec, ...], needed: tuple[str, ...], known: tuple[str, ...] | None) -> tuple[TensorSpec, ...]:
    """Names for those that have none: the parameters of `forward` in their order."""
    free = [name for name in (known or needed) if name not in {spec.name.partition(".")[0] for spec in specs}]
    named = []
    for place, spec in enumerate(specs):
        made_up = free.pop(0) if not spec.name and free else f"input_{place}" if place else "input"
        named.append(TensorSpec(spec.name or made_up, spec.dtype, spec.shape))
    given = {spec.name.partition(".")[0] for spec in named}
    lacking = [name for name in needed if name not in given]
    strange = sorted(given - set(known)) if known is not None else []
    if lacking or strange:
        raise ImportRefused(
            f"The model takes {', '.join(known or needed)}; the option input "
            + (f"lacks {wording.name(lacking[0])}." if lacking else f"names {wording.name(strange[0])}."),
            code="WRONG_INPUT",
            field="input",
            hint="Name each: --input '" + ",".join(f"{name}=float32[{BATCH},…]" for name in needed) + "'",
        )
    return tuple(named)


def _with_fixed(found: Iterable[tuple[TensorSpec, ...]]) -> Iterator[tuple[TensorSpec, ...]]:
    """Each guess, and after it the same for one row: some models take no other number."""
    for specs in found:
        yield specs
        yield tuple(replace_dims(spec, {BATCH: 1}) for spec in specs)


def _guessed(model: nn.Module, notes: list[str]) -> Program:
    known = known_names(model)
    first: ImportRefused | None = None
    for specs in _with_fixed(guesses(model)):
        try:
            program, found = probe(model, bound_by_name([spec.name for spec in specs], known), specs)
        except ImportRefused as refusal:
            if refusal.code not in ("WRONG_INPUT", "FIXED_DIM"):
                raise
            first = first or refusal
            continue
        shown = ", ".join(f"{spec.name} {spec.dtype}[{','.join(map(str, spec.shape or ()))}]" for spec in specs)
        notes.extend((f"What it takes was assumed from its layers and tried: {shown}. To say it yourself: --input.", *found))
        return program
    assert first is not None
    raise ImportRefused(
        f"What the model takes could not be found by trying. {first.message}", code="INPUT_NEEDED", field="input", hint=first.hint
    )
