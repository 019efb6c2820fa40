"""Which servers run on this machine: `ps`. Reads HOME/run, believes only files whose server holds its lock."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towline.app.home import find_home
from towline.core.lock import is_held

SCHEMA = "towline.server/1"
MAX_FILE_BYTES = 8 << 20
# States of a model that a server no longer needs the files of.
GONE = ("closed", "failed")


@dataclass(frozen=True)
class RunningModel:
    """One version a server has. `state` is a slot's: new, loading, warming, ready, draining, closed or failed."""

    name: str
    version: int
    digest: str
    state: str
    since_s: float
    pid: int | None
    error: str = ""


@dataclass(frozen=True)
class RunningServer:
    """One live server. `started_s` is seconds since 1970."""

    pid: int
    url: str
    grpc_url: str | None
    started_s: float
    models: tuple[RunningModel, ...]


def ps(*, home: str | Path | None = None) -> tuple[RunningServer, ...]:
    """The live servers of this home, oldest first. Files that a dead server left behind are removed."""
    servers = []
    for file in sorted((find_home(home) / "run").glob("server-*.json")):
        if not is_held(file.with_suffix(".lock")):
            _remove(file)
            continue
        server = _read(file)
        if server is not None and _is_alive(server.pid):
            servers.append(server)
    return tuple(sorted(servers, key=lambda server: server.started_s))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(file: Path) -> None:
    # Another `ps` may have been faster, and a read-only home is no reason to fail.
    with suppress(FileNotFoundError, PermissionError):
        file.unlink()
        file.with_suffix(".lock").unlink()


def _read(file: Path) -> RunningServer | None:
    """The server a file tells of; None when it is not such a file, or went just now."""
    try:
        with file.open("rb") as opened:
            found = json.loads(opened.read(MAX_FILE_BYTES))
        return _server(found) if found["schema"] == SCHEMA else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _server(found: dict[str, Any]) -> RunningServer:
    models = tuple(
        RunningModel(
            name=str(model["name"]),
            version=int(model["version"]),
            digest=str(model["digest"]),
            state=str(model["state"]),
            since_s=float(model["since_s"]),
            pid=int(model["pid"]) if model.get("pid") is not None else None,
            error=str(model.get("error", "")),
        )
        for model in found["models"]
    )
    grpc_url = found.get("grpc_url")
    return RunningServer(int(found["pid"]), str(found["url"]), str(grpc_url) if grpc_url else None, float(found["started_s"]), models)
