"""`towline serve`: bind, start the supervisor and what it supervises, tell the person at the terminal what happens."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from towline.app.home import find_settings
from towline.app.options import ServeOptions
from towline.app.serving.early import FORK_SERVER, PYTHON, Begun
from towline.app.serving.listening import address_of, listen, reserve
from towline.core.config import NO_PORT, home_folder, is_loopback
from towline.core.errors import MissingExtra, UsageError
from towline.serve.supervisor.births import Commands
from towline.serve.supervisor.supervisor import Supervisor


@dataclasses.dataclass(frozen=True)
class Addresses:
    """Where a server answers: `http://HOST:PORT`, and `HOST:PORT` for gRPC or nothing."""

    http: str
    grpc: str


def serve(
    *refs: str, watch: tuple[str | Path, ...] = (), include: tuple[str | Path, ...] = (), force: bool = False, **settings: Any
) -> int:
    """Serve model files or versions until SIGTERM or Ctrl-C; returns the exit code. The same as `towline serve`, from Python.

    `settings` are those of `towline config show`: host, port, home, isolation, …. Call it from the main thread.
    """
    loaded = find_settings(settings)
    home = home_folder(loaded.settings, os.environ)
    return serve_command(
        ServeOptions(home, loaded.settings, refs, tuple(map(Path, watch)), force, origin=loaded.origin, include=tuple(map(Path, include)))
    )


def serve_command(options: ServeOptions, begun: Begun | None = None) -> int:
    """`begun` is the fork server, where it was started already."""
    _check_exposure(options)
    _check_grpc(options)
    asks_for_keys = _check_keys(options)
    listener = listen(options.host, options.port)
    # Held until the end, so that a front that is started again finds its port free.
    reserved = reserve(options.host, options.grpc_port) if options.grpc_port != NO_PORT else None
    at = Addresses(f"http://{address_of(listener)}", address_of(reserved) if reserved else "")
    settings = replace(options.settings, home=str(options.home))
    if reserved:
        settings = replace(settings, grpc_port=reserved.getsockname()[1])
    began_s = time.monotonic()
    supervisor = Supervisor(
        _commands(replace(options, settings=settings), at),
        listener,
        drain_timeout_s=options.drain_timeout_s,
        say=lambda message: _say(
            message, at, began_s, is_watching=bool(options.watch or options.tfserving.config_file or options.tfserving.base_path)
        ),
        begun=begun,
    )
    if asks_for_keys:
        _talk("Clients need a key: towline key")
    return supervisor.run()


def _commands(options: ServeOptions, at: Addresses) -> Commands:
    settings = json.dumps(dataclasses.asdict(options.settings))
    wish = {
        "home": str(options.home),
        "refs": list(options.refs),
        "given": dict(options.given),
        "watch": [str(folder) for folder in options.watch],
        "include": [str(path.absolute()) for path in options.include],
        "python": options.python,
        "url": at.http,
        "grpc_url": f"grpc://{at.grpc}" if at.grpc else None,
        "device": options.device,
        "max_request_bytes": options.settings.max_request_bytes,
        "load_timeout_s": options.settings.load_timeout_s,
        "model_control": options.settings.model_control,
        "started_s": time.time(),
        "tfserving": dataclasses.asdict(options.tfserving),
    }
    return Commands(
        python=PYTHON,
        front=["towline.app.serving.front", "{channel}", "{listener}", settings, "force" if options.force else "fit"],
        controller=["towline.app.serving.controller", "{channel}", json.dumps(wish), "{launch}"],
        fork_server=FORK_SERVER,
        worker=["towline.engines.host", "worker"],
    )


def _check_exposure(options: ServeOptions) -> None:
    """Beyond this machine only with keys and TLS, which come later, or when the user takes the risk by name."""
    if not is_loopback(options.host) and not options.insecure:
        raise UsageError(
            f"Listening on {options.host} would let others on the network use this server, without keys and unencrypted.",
            code="INSECURE",
            hint="Keep --host 127.0.0.1 behind a proxy, or say --insecure.",
        )


def _check_grpc(options: ServeOptions) -> None:
    """Before anything starts: a front that cannot import its server would be started again and again."""
    if options.settings.grpc_server != "native" or options.grpc_port == NO_PORT:
        return
    if importlib.util.find_spec("pygrpc_native") is None:
        raise MissingExtra("--grpc native needs pygrpc-native, which is not installed.", hint="Try: pip install 'towline[fast]'")


def _check_keys(options: ServeOptions) -> bool:
    """Whether clients need a key. Raises TowlineError when the keys cannot be read, UsageError when there must be some and are none."""
    if options.settings.auth == "off":
        return False
    from towline.secure.keys import FILE_NAME, read_ring

    ring = read_ring(options.home / FILE_NAME)
    if ring is None and options.settings.auth == "keys":
        raise UsageError(
            "auth is 'keys', and no key was made yet: nobody could use this server.", code="NO_KEYS", hint="First: towline key NAME"
        )
    return ring is not None


def _say(message: dict[str, Any], at: Addresses, began_s: float, *, is_watching: bool) -> None:
    sayings: dict[str, Callable[[], None]] = {
        "ready": lambda: _say_ready(message["models"], at, time.monotonic() - began_s, is_watching=is_watching),
        "draining": lambda: _talk("Stopping: finishing what is in flight. Again to stop at once."),
        "restarting": lambda: _talk(f"The {message['role']} ended with status {message['code']} and is started again."),
        "fatal": lambda: _say_fatal(message),
        "note": lambda: _talk(message["text"]),
    }
    sayings.get(message["do"], lambda: None)()


def _say_ready(models: list[dict[str, Any]], at: Addresses, took_s: float, *, is_watching: bool) -> None:
    url = at.http
    served = [f"{model['name']}:{model['version']}" for model in models if model["state"] == "ready"]
    _talk(f"Serving {', '.join(served) or 'nothing yet'} on {url} (ready in {took_s:.1f} s, pid {os.getpid()})")
    if at.grpc:
        _talk(f"  grpc:  {at.grpc}")
    if served:
        name = served[0].rpartition(":")[0]
        _talk(f"  try:   curl {url}/v2/models/{name}")
        _talk(f"  post:  {url}/v1/models/{name}:predict  ·  /v2/models/{name}/infer  ·  /models/{name}/predict")
        _talk("  see:   towline ps  ·  towline events")
    elif is_watching:
        _talk("  next:  what is found in the folders is taken in, which the log tells; then  towline ps")
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
