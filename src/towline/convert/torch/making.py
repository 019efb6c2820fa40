"""Make the architecture that the option `arch` names. This runs the user's code: only ever behind the walls."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from difflib import get_close_matches
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from towline.convert import wording
from towline.convert.arch import ARCH_HINT, Arch
from towline.core.errors import ImportRefused

# Classes of a file that a refusal names.
_MOST_NAMED = 5


def make(arch: Arch, module: ModuleType | None = None) -> torch.nn.Module:
    """The architecture, with weights that mean nothing yet. Raises ImportRefused."""
    if arch.is_torchvision:
        return _made_by_torchvision(arch)
    code = module or load_file(Path(arch.place))
    thing = getattr(code, arch.name, None)
    if thing is None:
        there = f"; it has {', '.join(map(wording.name, classes))}" if (classes := _modules_in(code)) else ""
        raise ImportRefused(
            f"There is no {wording.name(arch.name)} in the file of --arch{there}.", code="BAD_ARCHITECTURE", field="arch", hint=ARCH_HINT
        )
    if isinstance(thing, torch.nn.Module):
        return thing
    try:
        made = thing(*arch.positional, **arch.named)
    except TypeError as error:
        raise ImportRefused(
            f"{arch.name} cannot be made: {wording.sentence(str(error))}.",
            code="BAD_ARCHITECTURE",
            field="arch",
            hint=f"Give its arguments: --arch 'FILE.py:{arch.name}({_arguments_of(thing)})'",
        ) from error
    if not isinstance(made, torch.nn.Module):
        raise ImportRefused(
            f"{arch.name} gave a {type(made).__name__}, expected a torch.nn.Module.", code="BAD_ARCHITECTURE", field="arch", hint=ARCH_HINT
        )
    return made


def _modules_in(code: ModuleType) -> list[str]:
    """The module classes that a file defines itself, the last first: a whole network comes behind its parts."""
    found = [name for name, one in vars(code).items() if isinstance(one, type) and issubclass(one, torch.nn.Module)]
    return [name for name in reversed(found) if vars(code)[name].__module__ == code.__name__][:_MOST_NAMED]


def load_file(path: Path) -> ModuleType:
    """Import a file of the user's under its own name, so that what was pickled with it is found again."""
    if path.stem in sys.modules:
        return (
            sys.modules[path.stem] if getattr(sys.modules[path.stem], "__file__", "") == str(path) else _executed(path, f"arch_{path.stem}")
        )
    return _executed(path, path.stem)


def _executed(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ImportRefused("The file of --arch is not there.", code="BAD_ARCHITECTURE", field="arch", hint=ARCH_HINT)
    # Behind everything that is installed: a file of the user's must not stand in for a library.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        _run(spec.loader, module)
    except ModuleNotFoundError as error:
        raise ImportRefused(
            f"The file of --arch needs the module {wording.name(error.name or '')}, which is not there.",
            code="BAD_ARCHITECTURE",
            field="arch",
            hint="Give a file that needs only torch, or put the module beside it.",
        ) from error
    except (SyntaxError, ImportError, AttributeError, NameError, TypeError, ValueError) as error:
        said = wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(path.parent),))
        raise ImportRefused(f"The file of --arch cannot be run: {said}", code="BAD_ARCHITECTURE", field="arch") from error
    return module


def _run(loader: Loader, module: ModuleType) -> None:
    try:
        loader.exec_module(module)
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        # It imports torchvision, whose compiled operators do not fit this build of torch; its classes may need none of them.
        torchvision_models()
        loader.exec_module(module)


def _arguments_of(thing: Any) -> str:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):
        return "…"
    return (
        ", ".join(
            f"{one.name}=…" for one in parameters if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
        )
        or "…"
    )


def _made_by_torchvision(arch: Arch) -> torch.nn.Module:
    models = torchvision_models()
    if arch.name not in models.list_models():
        near = get_close_matches(arch.name, models.list_models(), 1)
        raise ImportRefused(
            f"torchvision has no model {wording.name(arch.name)}.",
            code="BAD_ARCHITECTURE",
            field="arch",
            hint=f"Did you mean torchvision:{near[0]}?" if near else ARCH_HINT,
        )
    try:
        # Without weights always: nothing is downloaded.
        made: torch.nn.Module = models.get_model(arch.name, *arch.positional, **{**arch.named, "weights": None})
    except (TypeError, ValueError) as error:
        raise ImportRefused(
            f"torchvision cannot make {arch.name}: {wording.sentence(str(error))}", code="BAD_ARCHITECTURE", field="arch"
        ) from error
    return made


# Kept alive: the operators that it declares vanish with it.
_DECLARED: list[Any] = []


def torchvision_models() -> Any:
    """The module torchvision.models, also where its compiled operators do not fit this build of torch: classifiers never call them."""
    try:
        import torchvision
    except ModuleNotFoundError:
        raise ImportRefused(
            "torchvision is not in the environment 'torch'.",
            code="BAD_ARCHITECTURE",
            field="arch",
            hint="Give the code: --arch model.py:Class",
        ) from None
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(library)
        import torchvision
    return torchvision.models
