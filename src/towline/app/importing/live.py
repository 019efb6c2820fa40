"""Import a model that lives in the caller's own process: a module, a Keras model, a fitted estimator, a Booster.

Its code runs here already, so there is nothing to wall off. No framework is imported to tell what it is: the names of its classes do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from towline.app.importing.foreign import import_asked
from towline.app.importing.given import Given
from towline.app.importing.sealing import ImportResult, Order
from towline.convert.foreign.converter import Loaded
from towline.convert.foreign.importers import live_source
from towline.convert.foreign.local import LocalConverter
from towline.convert.made import default_of
from towline.convert.recognise import Recognised
from towline.core.errors import EngineError, UsageError
from towline.core.manifest import Signature
from towline.verify.parity.requests import parity_requests
from towline.verify.samples import fitted

if TYPE_CHECKING:
    from towline.serve.workers.local import LocalWorker

# By the package that the nearest of a model's classes comes from.
_PACKAGES = {
    "torch": ("torch", "a PyTorch module"),
    "keras": ("tensorflow", "a Keras model"),
    "sklearn": ("tabular", "a scikit-learn model"),
    "lightgbm": ("tabular", "a LightGBM model"),
}
_MODELS = ("Module", "Model", "BaseEstimator", "Booster")
# How many of its answers go into the digest that such a model is known by.
_DIGESTED_ANSWERS = 8


def recognise_object(model: object) -> Recognised:
    """What a Python object is. Raises UsageError for what is no model."""
    for kind in type(model).__mro__:
        package = kind.__module__.partition(".")[0]
        if package in _PACKAGES and any(base.__name__ in _MODELS for base in kind.__mro__):
            importer, what = _PACKAGES[package]
            return Recognised("object", importer, what, Path(type(model).__name__))
    raise UsageError(
        f"A '{type(model).__module__}.{type(model).__qualname__}' is no model that can be imported.",
        code="NO_MODEL",
        field="source",
        hint="Give a file, a torch.nn.Module, a Keras model, a fitted scikit-learn or LightGBM model.",
    )


def import_object(order: Order, given: Given, model: object, sample: object = None) -> tuple[ImportResult, LocalWorker | None]:
    """`sample`: arrays by input name, one array, or a data frame. Raises ImportRefused."""
    found = given.foreign
    assert found is not None
    options = {name: value for name, value in given.options.items() if name != "route"}
    if found.importer == "torch" and sample is not None:
        options = {"input": _declared(sample), **options}
    with order.store.stage() as work:
        order.say(f"Reading {found.what} of this process")
        scratch = work / "scratch"
        scratch.mkdir(mode=0o700)
        converter = LocalConverter(live_source(found.importer, model, options), scratch)
        loaded = converter.load()
        if sample is not None:
            given = replace(given, sample=_written(sample, loaded.signatures[default_of(loaded.signatures)], work))
        return import_asked(order, given, found, converter, work, _digest(converter, loaded))


def _declared(sample: object) -> str:
    """The option `input` as the arrays of a sample say it: the first axis is the batch."""
    arrays = {str(name): _array(value) for name, value in sample.items()} if isinstance(sample, Mapping) else {"": _array(sample)}
    return ",".join(f"{name}{'=' if name else ''}{_dtype(array)}[N{_rest(array)}]" for name, array in arrays.items())


def _dtype(array: np.ndarray) -> str:
    # What Python and numpy make of a list of numbers, and no layer takes.
    return "float32" if array.dtype == np.float64 else str(array.dtype)


def _rest(array: np.ndarray) -> str:
    return "".join(f",{size}" for size in array.shape[1:])


def _written(sample: object, signature: Signature, work: Path) -> Path:
    """The sample as a file, as everybody else's is."""
    arrays = fitted(_by_input(sample, signature), signature)
    plain = {name: np.char.decode(array.astype(bytes), "utf-8") if array.dtype == object else array for name, array in arrays.items()}
    path = work / "sample.npz"
    np.savez(path, **plain)  # type: ignore[arg-type]
    return path


def _by_input(sample: Any, signature: Signature) -> Any:
    columns = getattr(sample, "columns", None)
    if columns is not None and len(signature.inputs) == 1:
        return sample.to_numpy()
    if columns is None and not isinstance(sample, Mapping):
        return _array(sample)
    given = {str(name): _array(sample[name]) for name in (columns if columns is not None else sample)}
    ranks = {spec.name: len(spec.shape or ()) for spec in signature.inputs}
    # Of a data frame's columns the model may leave some out.
    kept = {name: array for name, array in given.items() if columns is None or name in ranks}
    return {name: array.reshape(-1, 1) if ranks.get(name) == 2 and array.ndim == 1 else array for name, array in kept.items()}


def _array(value: Any) -> np.ndarray:
    """Of a tensor, a column or a list."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value.numpy() if hasattr(value, "numpy") else value)


def _digest(converter: LocalConverter, loaded: Loaded) -> str:
    """Of what it is and of what it answers: an object has no bytes of its own that would tell it from another."""
    default = default_of(loaded.signatures)
    told = hashlib.sha256(msgspec.json.encode([dict(loaded.signatures), dict(loaded.facts), loaded.parameters], order="deterministic"))
    requests = [dict(loaded.examples)] if loaded.examples else parity_requests(loaded.signatures[default])
    for request in islice(requests, _DIGESTED_ANSWERS):
        try:
            answers = converter.answer(request, signature=default)
        except EngineError:
            continue
        for name in sorted(answers):
            array = answers[name]
            told.update(name.encode() + (repr(array.tolist()).encode() if array.dtype == object else array.tobytes()))
    return f"sha256:{told.hexdigest()}"
