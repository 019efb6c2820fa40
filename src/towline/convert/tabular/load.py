"""Read a file with a fitted model: the one place where anything is unpickled. Runs in the converter process only, behind its walls.

Every name that a pickle asks for passes `vet` before it is imported, also in pickles within pickles: the interpreter itself reports them.
"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

from towline.convert.tabular.vetted import vet
from towline.convert.wording import name as quoted
from towline.convert.wording import sentence
from towline.core.errors import ImportRefused

LIGHTGBM_MARK = b"tree\nversion="
# How far into a file the number of the release that saved it is looked for.
_SCANNED_BYTES = 4 << 20
_SAVED_BY = re.compile(rb"_sklearn_version\W{1,12}?(\d+\.\d+[\w.]{0,16})", re.DOTALL)

_reading = False


def read_model(path: Path) -> tuple[Any, tuple[str, ...]]:
    """The fitted model in a file, and sentences for the report. Raises ImportRefused."""
    with path.open("rb") as file:
        head = file.read(_SCANNED_BYTES)
    if head.replace(b"\r\n", b"\n").startswith(LIGHTGBM_MARK):
        return _booster(path), ()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        held = _unpickled(path, head)
    model, notes = _model_in(held)
    return model, (*notes, *_version_notes(seen))


def _booster(path: Path) -> Any:
    import lightgbm

    try:
        return lightgbm.Booster(model_str=path.read_text(encoding="utf-8"))
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise _damaged(f"LightGBM says: {sentence(str(error), hidden=(str(path),))}") from None


def _unpickled(path: Path, head: bytes) -> Any:
    global _reading
    import joblib
    import sklearn

    # What models are made of, loaded before names are vetted: these packages unpickle nothing when a model asks for them.
    _import_frameworks()
    _vet_from_now_on()
    _reading = True
    try:
        return joblib.load(path)
    except (ImportRefused, MemoryError):
        raise
    except (ImportError, AttributeError, TypeError) as error:
        saved = _SAVED_BY.search(head)
        by = f"scikit-learn {saved[1].decode()}" if saved else "another release"
        raise ImportRefused(
            f"The model was saved by {by}, and scikit-learn {sklearn.__version__} cannot rebuild it: {sentence(str(error))}",
            code="OTHER_RELEASE",
            hint="Save it again with a release of today, or import its ONNX export.",
        ) from None
    except Exception as error:
        # A damaged pickle raises whatever the bytes happen to mean.
        raise _damaged(sentence(f"{type(error).__name__}: {error}", hidden=(str(path),))) from None
    finally:
        _reading = False


def _import_frameworks() -> None:
    import importlib

    for name in ("sklearn.pipeline", "sklearn.compose", "lightgbm", "pandas", "scipy.sparse"):
        try:
            importlib.import_module(name)
        except ImportError:
            # A model that needs it is refused by name when its pickle asks for it.
            continue


_hooked = False


def _vet_from_now_on() -> None:
    """An audit hook stays for the life of a process; it listens only while a model is read."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_heard)
        _hooked = True


def _heard(event: str, given: tuple[Any, ...]) -> None:
    if event == "pickle.find_class" and _reading:
        vet(str(given[0]), str(given[1]))


def _model_in(held: Any) -> tuple[Any, tuple[str, ...]]:
    """The model itself; of a dict, the one model in it."""
    if _is_model(held):
        return held, ()
    if isinstance(held, dict):
        models = [key for key, value in held.items() if _is_model(value)]
        if len(models) == 1:
            return held[models[0]], (f"The file holds a dict of {len(held)} things; the model is its {quoted(str(models[0]))}.",)
    kind = f"{type(held).__module__}.{type(held).__qualname__}"
    raise ImportRefused(
        f"The file holds {quoted(kind)}, expected a fitted model of scikit-learn or LightGBM.",
        code="NO_MODEL",
        hint="Save the model alone: joblib.dump(model, 'model.joblib').",
    )


def _is_model(held: Any) -> bool:
    if isinstance(held, type):
        return False
    # Data frames transform too.
    learns = hasattr(held, "get_params") or type(held).__module__.startswith("lightgbm.")
    return learns and any(hasattr(held, method) for method in ("predict", "transform", "fit_predict"))


def _version_notes(seen: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """One sentence for however many parts of a model were saved by another release."""
    for warned in seen:
        original, current = (getattr(warned.message, f"{which}_sklearn_version", None) for which in ("original", "current"))
        if original is not None:
            return (f"Saved by scikit-learn {original}, read by {current}: answers were compared with what {current} makes of it.",)
    return ()


def _damaged(what: str) -> ImportRefused:
    return ImportRefused(
        f"The file is damaged: {what}", code="DAMAGED_SOURCE", hint="Copy it again; if that does not help, save the model again."
    )
