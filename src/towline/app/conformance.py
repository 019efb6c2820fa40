"""`towline conformance`: ask a server, ours or another, every clause of the protocols it speaks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from towline.app.demo.server import served
from towline.core.config import is_loopback
from towline.core.errors import UsageError
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.verify.conformance.checks import Level, Result, Status
from towline.verify.conformance.run import PROTOCOLS, chosen, fails, model_bytes, run
from towline.verify.conformance.target import ECHO, HALVES, Target

__all__ = ["PROTOCOLS", "Asked", "Level", "Result", "Status", "conformance", "fails", "write_model"]

_MODELS = (HALVES, ECHO)


@dataclass(frozen=True)
class Asked:
    """One `towline conformance`. Without a `url` our own server is started for it, with the suite's models."""

    url: str = ""
    grpc: str = ""
    only: tuple[str, ...] = ()
    allow_remote: bool = False
    key: str | None = None


def conformance(asked: Asked, show: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """How each clause ended; `show` hears of each as it ends. Raises UsageError, Unreachable, Unavailable."""
    checks = chosen(asked.only)
    with _target(asked) as target:
        return run(target, checks, show)


def write_model(name: str, place: Path) -> None:
    """One of the suite's models as a file, to be loaded into the server under test under its own name."""
    raw = model_bytes(name)
    try:
        with place.open("xb") as file:
            file.write(raw)
    except FileExistsError:
        raise UsageError(f"{place} is there already.", hint="Name another file, or remove it first.") from None
    except OSError as error:
        raise UsageError(f"{place} cannot be written: {error.strerror}.") from None


@contextmanager
def _target(asked: Asked) -> Iterator[Target]:
    if asked.url:
        host, port = _checked_url(asked)
        yield Target(host, port, asked.grpc, MESSAGES, key=asked.key)
        return
    if asked.grpc:
        raise UsageError("--grpc goes with --url: without one our own server is asked, on ports of its own.")
    with tempfile.TemporaryDirectory(prefix="towline-conformance-") as scratch:
        folder = Path(scratch)
        files = tuple(folder / f"{name}.onnx" for name in _MODELS)
        for name, file in zip(_MODELS, files, strict=True):
            write_model(name, file)
        with served(files, folder / "home", 0, folder / "server.log") as (_, server):
            at = urlsplit(server.url)
            yield Target(str(at.hostname), int(at.port or 80), urlsplit(server.grpc_url or "").netloc, MESSAGES)


def _checked_url(asked: Asked) -> tuple[str, int]:
    parts = urlsplit(asked.url)
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port or "@" in parts.netloc or parts.path.strip("/") or parts.query:
        raise UsageError(f"{asked.url[:128]!r} is no server to ask: expected http://HOST:PORT.", field="url")
    host, separator, number = asked.grpc.rpartition(":")
    if asked.grpc and not (separator and number.isdigit() and host):
        raise UsageError(f"{asked.grpc[:128]!r} is no gRPC server to ask: expected HOST:PORT.", field="grpc")
    for name in (parts.hostname, host.strip("[]")):
        if name and not asked.allow_remote and not is_loopback(name):
            raise UsageError(
                f"{name} is not this machine: some clauses send what a server must refuse.",
                code="REMOTE",
                hint="Say --allow-remote when the server is yours to ask.",
            )
    return parts.hostname, port
