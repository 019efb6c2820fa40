"""The demo's server: `towline serve` in a process of its own, and the killing of its worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from towline.app.running import RunningServer, ps
from towline.core.errors import Unavailable

START_TIMEOUT_S = 120.0
RECOVERY_TIMEOUT_S = 60.0
# Longer than the server's own drain timeout: it is killed only when it does not keep that.
STOP_TIMEOUT_S = 40.0
POLL_S = 0.05
SHOWN_LOG_LINES = 15
START_SERVER = "import sys; from towline.cli.main import main; sys.exit(main())"


@contextmanager
def served(
    model: Path | str | tuple[Path | str, ...], home: Path, port: int, log: Path, *, with_settings: bool = False
) -> Iterator[tuple[subprocess.Popen[bytes], RunningServer]]:
    """`towline serve MODEL…` on loopback, ready to answer (port 0: a free one); stopped at exit, and waited for. Raises Unavailable.

    Without `with_settings` settings of this shell or folder stay out of it: the demo shows the defaults.
    """
    environment = {name: value for name, value in os.environ.items() if with_settings or not name.startswith("TOWLINE_")}
    flags = ["--home", str(home), "--host", "127.0.0.1", "--port", str(port), "--grpc-port", "0"]
    with log.open("wb") as output:
        # A session of its own: Ctrl-C reaches the demo, which then stops the server in order.
        process = subprocess.Popen(
            [sys.executable, "-c", START_SERVER, "serve", *map(str, model if isinstance(model, tuple) else (model,)), *flags],
            cwd=None if with_settings else log.parent,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process, _wait_until_ready(process, home, log)
    finally:
        _stop(process)


def worker_pid(server_pid: int, home: Path, model_name: str) -> int | None:
    """The process that runs the model now; None when none is ready."""
    for server in ps(home=home):
        for model in server.models:
            if server.pid == server_pid and model.name == model_name and model.state == "ready":
                return model.pid
    return None


def kill_worker(server_pid: int, home: Path, model_name: str) -> int:
    """kill -9 the process that runs the model, and wait until another one does. Returns the pid killed. Raises Unavailable."""
    killed = worker_pid(server_pid, home, model_name)
    if killed is None:
        raise Unavailable(f"The server names no worker process that runs {model_name}, so there is none to kill.")
    os.kill(killed, signal.SIGKILL)
    deadline_s = time.monotonic() + RECOVERY_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if worker_pid(server_pid, home, model_name) not in (None, killed):
            return killed
        time.sleep(POLL_S)
    raise Unavailable(f"No new worker was ready within {RECOVERY_TIMEOUT_S:.0f} s of killing process {killed}.")


def _wait_until_ready(process: subprocess.Popen[bytes], home: Path, log: Path) -> RunningServer:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise Unavailable(f"The server ended with exit code {process.returncode} before it was ready.", hint=_last_lines(log))
        for server in ps(home=home):
            if server.pid == process.pid and _is_ready(server.url):
                return server
        time.sleep(POLL_S)
    raise Unavailable(f"The server was not ready within {START_TIMEOUT_S:.0f} s.", hint=_last_lines(log))


def _is_ready(url: str) -> bool:
    """Whether /readyz says so."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN_LOG_LINES:]
    return "\n".join(["Its last words:", *lines]) if lines else "It said nothing."
