"""Towline: a trained model goes in; a measured, versioned, monitored service comes out."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from towline.app.importing.model import import_model as import_model
    from towline.app.judging.compare import compare as compare
    from towline.app.optimizing.optimize import optimize as optimize
    from towline.app.predicting.load import load as load
    from towline.app.serving.mounted import asgi_app as asgi_app
    from towline.app.serving.serve import serve as serve
    from towline.app.tuning.tune import tune as tune
    from towline.client.http import Client as Client
    from towline.core.errors import TowlineError as TowlineError

# Reached lazily: `import towline` costs nothing until a name is used.
_PUBLIC = {
    "asgi_app": "towline.app.serving.mounted",
    "import_model": "towline.app.importing.model",
    "optimize": "towline.app.optimizing.optimize",
    "tune": "towline.app.tuning.tune",
    "compare": "towline.app.judging.compare",
    "load": "towline.app.predicting.load",
    "serve": "towline.app.serving.serve",
    "Client": "towline.client.http",
    "TowlineError": "towline.core.errors",
}

__all__ = ["Client", "TowlineError", "__version__", "asgi_app", "compare", "import_model", "load", "optimize", "serve", "tune"]


class _Verb(ModuleType):
    """A room that is named as its verb is, `towline.serve` and `towline.optimize`: once something in it was imported, the room is what the
    package has of that name, and calling it must still do what the verb does."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        return getattr(importlib.import_module(_PUBLIC[name]), name)(*arguments, **options)


class _Package(ModuleType):
    def __setattr__(self, name: str, value: object) -> None:
        if name in _PUBLIC and isinstance(value, ModuleType):
            value.__class__ = _Verb
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'towline' has no attribute {name!r}")
