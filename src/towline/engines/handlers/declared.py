"""Import a user's file and read what its class declares. Only ever called in a process of its own: importing runs the user's code."""

from __future__ import annotations

import importlib.util
import inspect
import math
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from towline.core.errors import VersionError
from towline.core.handler import BODY_SIGNATURE, MAX_CONCURRENT, parse_tensor
from towline.core.manifest import Handler, Signature
from towline.core.refs import clip

MAX_BATCH = 65_536
MAX_TIMEOUT_S = 86_400.0
_ASYNC_CONCURRENT = 16
_METHODS = ("setup", "decode", "predict", "encode")
_MEDIA_TYPE = r"[a-z]+/[A-Za-z0-9.+-]+(; ?charset=[A-Za-z0-9-]+)?"


@dataclass(frozen=True)
class Declared:
    """A class and what it says of itself. `sample` is a value for `decode`, when it gave one."""

    kind: type
    handler: Handler
    signature: Signature
    max_batch: int
    sample: bytes | None = None


def load_class(file: Path, class_name: str) -> type:
    """Import `file`, beside which its other modules are found, and return its class. Raises VersionError."""
    # The files of a version are sealed: nothing may be written beside them.
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(file.parent))
    name = file.stem if file.stem not in sys.modules else f"towline_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise VersionError(f"There is no file '{clip(file.name)}' in this version.", code="LOAD_FAILED")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise _import_failed(file, error) from error
    found = getattr(module, class_name, None)
    if not inspect.isclass(found):
        classes = [one for one, value in vars(module).items() if inspect.isclass(value) and value.__module__ == name]
        raise VersionError(
            f"'{clip(file.name)}' has no class '{clip(class_name)}'.",
            code="NO_SUCH_CLASS",
            hint=f"It has {', '.join(classes[:8])}." if classes else "It defines no class at all.",
        )
    return found


def _import_failed(file: Path, error: BaseException) -> VersionError:
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = clip(error.name.partition(".")[0])
        return VersionError(
            f"'{clip(file.name)}' imports '{package}', which is neither installed here nor beside it.",
            code="MISSING_PACKAGE",
            hint=f"Install it, name the environment that has it (--python ENV/bin/python), or bring your own along: --include {package}.py",
        )
    traceback.print_exception(error)
    line = next((one.lineno for one in reversed(traceback.extract_tb(error.__traceback__)) if one.filename == str(file)), None)
    where = f" (line {line})" if line else f" (line {error.lineno})" if isinstance(error, SyntaxError) and error.lineno else ""
    return VersionError(
        f"Importing '{clip(file.name)}'{where} raised {type(error).__name__}: {clip(str(error), 200)}",
        code="HANDLER_FAILED",
        hint="Import the file with python to see more.",
    )


def declared_by(kind: type) -> Declared:
    """What a class declares. Raises VersionError that names the attribute."""
    if not callable(getattr(kind, "predict", None)):
        raise _wrong(
            kind, "it has no method 'predict'", "A handler is a class with predict(self, x); setup, decode and encode are optional."
        )
    methods = [getattr(kind, name) for name in _METHODS if hasattr(kind, name)]
    is_async = any(inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method) for method in methods)
    predict = kind.predict  # type: ignore[attr-defined]
    streams = _flag(kind, "streams", default=inspect.isgeneratorfunction(predict) or inspect.isasyncgenfunction(predict))
    max_batch = _whole(kind, "max_batch", 1, MAX_BATCH)
    stateful = _flag(kind, "stateful")
    if streams and max_batch > 1:
        raise _wrong(kind, "it streams and has max_batch > 1", "An answer in parts is one request's: leave max_batch at 1.")
    signature, passes_body = _signature(kind)
    handler = Handler(
        class_name=kind.__name__,
        streams=streams,
        idempotent=_flag(kind, "idempotent"),
        stateful=stateful,
        max_concurrent=_whole(kind, "max_concurrent", _ASYNC_CONCURRENT if is_async and not stateful else 1, MAX_CONCURRENT),
        timeout_s=_timeout_s(kind),
        passes_body=passes_body,
        takes=_choice(kind, "takes", ("json", "bytes")),  # type: ignore[arg-type]
        media_type=_media_type(kind),
    )
    return Declared(kind, handler, signature, max_batch, _sample(kind, handler))


def _signature(kind: type) -> tuple[Signature, bool]:
    """The declared signature, and whether there is none."""
    given = [getattr(kind, name, None) for name in ("inputs", "outputs")]
    if given == [None, None]:
        return BODY_SIGNATURE, True
    specs = []
    for name, tensors in zip(("inputs", "outputs"), given, strict=True):
        if not isinstance(tensors, Mapping) or not tensors or not all(isinstance(one, str) and one for one in tensors):
            raise _wrong(kind, f"its '{name}' is {tensors!r:.80}", f'Declare both, each as a dict: {name} = {{"x": "float32[N,10]"}}.')
        specs.append(tuple(parse_tensor(one, text) for one, text in tensors.items()))
    return Signature(*specs), False


def _flag(kind: type, name: str, *, default: bool = False) -> bool:
    value = getattr(kind, name, default)
    if not isinstance(value, bool):
        raise _wrong(kind, f"its '{name}' is {value!r:.80}", f"Set {name} to True or False.")
    return value


def _whole(kind: type, name: str, default: int, most: int = MAX_BATCH) -> int:
    value = getattr(kind, name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise _wrong(kind, f"its '{name}' is {value!r:.80}", f"Set {name} to a whole number from 1 to {most}.")
    return value


def _timeout_s(kind: type) -> float | None:
    value = getattr(kind, "timeout_s", None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 < value <= MAX_TIMEOUT_S:
        raise _wrong(kind, f"its 'timeout_s' is {value!r:.80}", f"Set timeout_s to seconds, more than 0 and at most {MAX_TIMEOUT_S:g}.")
    return float(value)


def _choice(kind: type, name: str, choices: tuple[str, ...]) -> str:
    value = getattr(kind, name, choices[0])
    if value not in choices:
        raise _wrong(kind, f"its '{name}' is {value!r:.80}", f"Set {name} to {' or '.join(map(repr, choices))}.")
    return str(value)


def _media_type(kind: type) -> str:
    value = getattr(kind, "media_type", "application/json")
    if not isinstance(value, str) or len(value) > 100 or not re.fullmatch(_MEDIA_TYPE, value):
        raise _wrong(kind, f"its 'media_type' is {value!r:.80}", 'Write it as in "image/png".')
    return value


def _sample(kind: type, handler: Handler) -> bytes | None:
    """The body of a request with the sample that the class declares."""
    if not hasattr(kind, "sample") or not handler.passes_body:
        return None
    value = kind.sample
    if handler.takes == "bytes":
        if not isinstance(value, bytes):
            raise _wrong(kind, f"its 'sample' is a {type(value).__name__}", "It takes bytes: give a sample of bytes.")
        return value
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError):
        raise _wrong(kind, "its 'sample' cannot be written as JSON", "Give what a client would send.") from None


def _wrong(kind: type, what: str, hint: str) -> VersionError:
    return VersionError(f"Class '{clip(kind.__name__)}' is no handler: {what}.", code="BAD_HANDLER", hint=hint)
