"""Load what torch.save wrote: weights by the unpickler that makes nothing else, and whole modules, whose code runs behind the walls."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from towline.convert import wording
from towline.convert.arch import Arch
from towline.convert.torch.making import load_file, make, torchvision_models
from towline.convert.torch.matching import check_fits
from towline.convert.torch.pickled import Name, code_names, is_number, is_plain
from towline.convert.torch.unwrapping import Unwrapped, renamed, unwrap
from towline.convert.torch.weights import contents, described, refuse_without_code, stored
from towline.core.errors import ImportRefused

_PLAIN_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
# What no checkpoint of a model has a use for. The walls stand whatever is missing in this list: it only gives a better sentence.
_HOSTILE = {"builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "shutil", "socket", "runpy", "importlib", "pty", "ctypes"}
_RUNS_A_PICKLE = Name("torch.storage", "_load_from_bytes")


def load_weights(path: Path, kind: str) -> Unwrapped:
    """Every tensor by name. Objects of other classes in the file are replaced by empty ones; nothing of theirs runs."""
    if kind == "safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file as load_safetensors

        # Its table is checked first: what it says is what the file has.
        contents(path, kind)
        try:
            return Unwrapped(load_safetensors(str(path)))
        except SafetensorError as error:
            raise ImportRefused(f"The safetensors file cannot be read: {wording.sentence(str(error))}", code="TORN_FILE") from error
    names = stored(path).names
    others = code_names(names)
    _refuse_hostile(others)
    root = _loaded(path, [name for name in names if not is_plain(name) or is_number(name)])
    found = unwrap(root, lambda value: isinstance(value, torch.Tensor))
    if found is None:
        raise ImportRefused("The file holds no weights.", code="NO_WEIGHTS", hint="Save model.state_dict(), or the exported model.")
    if not others:
        return found
    named = ", ".join(map(str, others[:3]))
    return Unwrapped(
        found.tensors, (*found.notes, f"Beside the weights the checkpoint has objects that were left out: {wording.name(named)}.")
    )


def load_model(path: Path, kind: str, arch: Arch | None) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """A module with its weights, and notes for the report. Raises ImportRefused."""
    if kind != "safetensors":
        # First of all: who is asked for the code of something hostile might go and find it.
        _refuse_hostile(code_names(stored(path).names))
    if arch is None:
        refuse_without_code(path, kind, path.name if _PLAIN_FILE.fullmatch(path.name) else "FILE")
    if kind != "safetensors" and described(stored(path)).module is not None:
        return _load_module(path, arch)
    assert arch is not None
    model = make(arch)
    loaded = load_weights(path, kind)
    expected = model.state_dict()
    fitted = renamed(loaded.tensors, expected)
    shapes = {name: tuple(tensor.shape) for name, tensor in fitted.tensors.items()}
    check_fits({name: tuple(tensor.shape) for name, tensor in expected.items()}, shapes, type(model).__name__)
    # Counters may be missing or too many; everything else was checked above.
    model.load_state_dict({name: tensor for name, tensor in fitted.tensors.items() if name in expected}, strict=False)
    return model, (*loaded.notes, *fitted.notes, *widened(fitted.tensors.values()))


def widened(tensors: Iterable[Any]) -> tuple[str, ...]:
    """A note where some of these tensors are narrower than float32, in which they are answered with."""
    narrow = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.dtype in (torch.float16, torch.bfloat16)}
    if not narrow:
        return ()
    return (f"The weights are {' and '.join(sorted(narrow))} in the source; they were widened to float32, which changes none of them.",)


def _load_module(path: Path, arch: Arch | None) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """A whole module. Unpickling runs what the file says: here, behind the walls, and nowhere else."""
    pickle = stored(path)
    needed = code_names(pickle.names)
    _refuse_hostile(needed)
    if arch is not None and arch.is_torchvision:
        torchvision_models()
        needed = tuple(name for name in needed if not name.module.startswith("torchvision.models."))
    elif arch is not None:
        _lend(load_file(Path(arch.place)), needed)
        needed = ()
    if needed:
        raise ImportRefused(f"The module needs code that was not given: {_some(needed)}.", code="ARCHITECTURE_NEEDED", field="arch")
    try:
        root = torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ModuleNotFoundError, TypeError, EOFError, RuntimeError) as error:
        said = wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(path.parent),))
        raise ImportRefused(
            f"The pickled module cannot be read with this code: {said}",
            code="TORN_FILE",
            hint="Give the file with the classes as they were when it was saved: --arch FILE.py:Class",
        ) from error
    found = root if isinstance(root, torch.nn.Module) else _first_module(root)
    if found is None:
        raise ImportRefused(f"The file holds a {wording.name(type(root).__name__)}, no model.", code="NO_MODEL")
    if isinstance(found, torch.nn.DataParallel):
        found = found.module
    return found, ("The source was a pickled module, which runs code when it is read; that ran behind the walls.",)


def _first_module(root: Any) -> torch.nn.Module | None:
    values = root.values() if isinstance(root, dict) else ()
    return next((value for value in values if isinstance(value, torch.nn.Module)), None)


def _lend(module: ModuleType, needed: Iterable[Name]) -> None:
    """Put the user's classes where the pickle looks for them: it names the module they were in when it was written."""
    lacking = [name for name in needed if not _has(module, name.name) and not _is_importable(name)]
    if lacking:
        raise ImportRefused(
            f"The file of --arch lacks what was pickled: {_some(lacking)}.",
            code="ARCHITECTURE_NEEDED",
            field="arch",
            hint="Give the file in which these classes are.",
        )
    for name in needed:
        if not _has(module, name.name):
            continue
        if name.module == "__main__":
            setattr(sys.modules["__main__"], name.name, getattr(module, name.name))
        else:
            for end in range(1, name.module.count(".") + 2):
                sys.modules.setdefault(".".join(name.module.split(".")[:end]), module)


def _has(module: ModuleType, name: str) -> bool:
    return isinstance(getattr(module, name, None), type)


def _is_importable(name: Name) -> bool:
    """What the user's own file imported is code that the user gave."""
    return _has(sys.modules.get(name.module, ModuleType("")), name.name)


def _loaded(path: Path, others: Iterable[Name]) -> Any:
    """`weights_only` always: an unknown class is given as an empty one of the same name, so that no code of it is needed or run."""
    stand_ins = [(type(name.name, (_StandIn,), {}), str(name)) for name in others]
    try:
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _unreadable(error, path) from error
    except Exception as error:
        # pickle.UnpicklingError, a module that nothing here imports.
        if type(error).__name__ != "UnpicklingError":
            raise
        raise _unreadable(error, path) from error


def _unreadable(error: Exception, path: Path) -> ImportRefused:
    said = wording.sentence(str(error).partition("\n")[0], hidden=(str(path.parent),))
    return ImportRefused(
        f"The weights cannot be read without running code, or are torn: {said}",
        code="TORN_FILE",
        hint="Save them again: torch.save(model.state_dict(), 'weights.pth'), or as safetensors.",
    )


class _StandIn:
    def __init__(self, *_: Any, **__: Any) -> None:
        """Takes whatever the real class took."""

    def __new__(cls, *_: Any, **__: Any) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, _: Any) -> None:
        """What the object held is no weight."""


def _refuse_hostile(names: Iterable[Name]) -> None:
    hostile = [name for name in names if _is_hostile(name)]
    if hostile:
        raise ImportRefused(
            f"The file would call {_some(hostile)} when it is read: no model needs that.",
            code="HOSTILE_PICKLE",
            hint="Do not load it anywhere. Ask who made it for the weights as safetensors.",
        )


def _is_hostile(name: Name) -> bool:
    return name.module.partition(".")[0] in _HOSTILE or "." in name.name or name == _RUNS_A_PICKLE


def _some(names: Iterable[Name]) -> str:
    shown = list(names)
    more = f" and {len(shown) - 3} more" if len(shown) > 3 else ""
    return ", ".join(wording.name(str(name)) for name in shown[:3]) + more
