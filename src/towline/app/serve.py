"""`towline serve`: bind, start the supervisor and what it supervises, tell the person at the terminal what happens."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from towline.app.home import find_settings
from towline.app.options import ServeOptions
from towline.core.config import home_folder, is_loopback
from towline.core.errors import UsageError
from towline.serve.supervisor import Commands, Supervisor

_BACKLOG = 2048


def serve(*refs: str, watch: tuple[str | Path, ...] = (), force: bool = False, **settings: Any) -> int:
    """Serve model files or versions until SIGTERM or Ctrl-C; returns the exit code. The same as `towline serve`, from Python.

    `settings` are those of `towline config show`: host, port, home, isolation, …. Call it from the main thread.
    """
    loaded = find_settings(settings)
    home = home_folder(loaded.settings, os.environ)
    return serve_command(ServeOptions(home, loaded.settings, refs, tuple(map(Path, watch)), force, loaded.origin))


def serve_command(options: ServeOptions) -> int:
    _check_exposure(options)
    listener = _listen(options.host, options.port)
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if options.origin.get("grpc_port", "default") != "default":
        _talk("gRPC is not served yet; --grpc-port is kept for it.")
    began_s = time.monotonic()
    supervisor = Supervisor(
        _commands(options, url), listener, drain_timeout_s=options.drain_timeout_s, say=lambda message: _say(message, url, began_s)
    )
    return supervisor.run()


def _commands(options: ServeOptions, url: str) -> Commands:
    # -P: a numpy.py in the folder this was started in is not ours to run.
    python = [sys.executable, "-P", "-m"]
    settings = json.dumps(dataclasses.asdict(options.settings))
    wish = {
        "home": str(options.home),
        "refs": list(options.refs),
        "watch": [str(folder) for folder in options.watch],
        "url": url,
        "device": options.device,
        "max_request_bytes": options.settings.max_request_bytes,
        "load_timeout_s": options.settings.load_timeout_s,
    }
    return Commands(
        front=[*python, "towline.app.front", "{channel}", "{listener}", settings, "force" if options.force else "fit", "{launch}"],
        controller=[*python, "towline.app.controller", "{channel}", json.dumps(wish), "{launch}"],
        fork_server=[*python, "towline.engines.host", "fork-server", "{channel}"],
        worker=[*python, "towline.engines.host", "worker"],
    )


def _check_exposure(options: ServeOptions) -> None:
    """Beyond this machine only with keys and TLS, which come later, or when the user takes the risk by name."""
    if not is_loopback(options.host) and not options.insecure:
        raise UsageError(
            f"Listening on {options.host} would let others on the network use this server, without keys and unencrypted.",
            code="INSECURE",
            hint="Keep --host 127.0.0.1 behind a proxy, or say --insecure.",
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        holder = _holder(port)
        taken = f" by process {holder}" if holder else ""
        reason = f"is in use{taken}" if error.errno == 98 else f"cannot be used: {error.strerror}"
        raise UsageError(
            f"Port {port} of {host} {reason}.", code="PORT_IN_USE", field="port", hint="Stop it, or take another: --port 0"
        ) from error
    return listener


def _holder(port: int) -> int:
    """The process that listens on a port of this machine, 0 when that cannot be told. Reads /proc."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for folder in Path("/proc").glob("[0-9]*/fd") if inodes else ():
        try:
            if any(os.readlink(link) in inodes for link in folder.iterdir()):
                return int(folder.parent.name)
        except OSError:
            continue
    return 0


def _say(message: dict[str, Any], url: str, began_s: float) -> None:
    sayings: dict[str, Callable[[], None]] = {
        "ready": lambda: _say_ready(message["models"], url, time.monotonic() - began_s),
        "draining": lambda: _talk("Stopping: finishing what is in flight. Again to stop at once."),
        "restarting": lambda: _talk(f"The {message['role']} ended with status {message['code']} and is started again."),
        "fatal": lambda: _say_fatal(message),
        "note": lambda: _talk(message["text"]),
    }
    sayings.get(message["do"], lambda: None)()


def _say_ready(models: list[dict[str, Any]], url: str, took_s: float) -> None:
    served = [f"{model['name']}:{model['version']}" for model in models if model["state"] == "ready"]
    _talk(f"Serving {', '.join(served) or 'nothing yet'} on {url} (ready in {took_s:.1f} s, pid {os.getpid()})")
    if served:
        name = served[0].rpartition(":")[0]
        _talk(f"  try:   curl {url}/v2/models/{name}")
        _talk(f"  post:  {url}/v1/models/{name}:predict  ·  /v2/models/{name}/infer  ·  /models/{name}/predict")
        _talk("  see:   towline ps  ·  towline events")
    else:
        _talk("  next:  towline import model.onnx --name NAME, then towline serve NAME")


def _say_fatal(message: dict[str, Any]) -> None:
    _talk(f"error: {message['error']}")
    if message.get("hint"):
        _talk(f"  hint: {message['hint']}")


def _talk(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        # Whoever read it has gone (`towline serve 2>&1 | head`). Requests are still answered.
        pass
