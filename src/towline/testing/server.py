"""A real `towline serve` in processes of its own, for tests: started, waited for, looked into through /proc, stopped. Linux.

with RunningServer("model.onnx", settings={"header_timeout_s": 0.5}) as server:
    status, body = server.post("/v1/models/model:predict", b'{"instances": [[1, 2]]}')
    os.kill(server.worker_pid("model"), signal.SIGKILL)
    server.wait_until(server.is_ready)
    assert server.stop() == 0
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from towline.testing.processes import resident_bytes, roles_of

# Nobody waits for these where all is well: a busy machine takes long over what takes a second.
START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 90.0
_POLL_S = 0.02
_FREE_PORTS = ("--port", "0", "--grpc-port", "0")
_START = "import sys; from towline.cli.main import main; sys.exit(main())"


class RunningServer:
    """`towline serve *sources` on free ports of loopback. A context manager: ready when entered, gone when left.

    sources: what `towline serve` takes: model files, names, refs; none serves what the store deploys. All of them are waited for.
    home: its store; a temporary folder, removed in the end, when not given.
    settings: by their names in `towline config show`; given as TOWLINE_* variables. No setting of this shell reaches the server.
    flags: further words of the command line.
    await_ready: False returns as soon as the process is started; `url` then waits until there is one.
    Raises RuntimeError, with the end of the log, when the server ends or is not ready in START_TIMEOUT_S.
    """

    def __init__(
        self,
        *sources: str | Path,
        home: str | Path | None = None,
        settings: Mapping[str, object] | None = None,
        flags: tuple[str, ...] = (),
        await_ready: bool = True,
    ) -> None:
        self._temporary = None if home else tempfile.mkdtemp(prefix="towline-test-")
        self.home = Path(home or str(self._temporary))
        self._sources = len({str(source) for source in sources})
        self._settings = dict(settings or {})
        self._command = [sys.executable, "-c", _START, "serve", *map(str, sources), "--home", str(self.home), *_FREE_PORTS, *flags]
        self._await_ready = await_ready
        self._process: subprocess.Popen[bytes] | None = None
        self._log = self.home / "server.log"

    def __enter__(self) -> RunningServer:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Start and stop

    def start(self) -> RunningServer:
        """Start it; for those who do not use `with`, who then call `close`. Starting again after `stop` appends to the same log."""
        self.home.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWLINE_")}
        environment |= {f"TOWLINE_{name.upper()}": str(value) for name, value in self._settings.items()}
        with self._log.open("ab") as output:
            # A session of its own: a Ctrl-C at the terminal is the test runner's, which then stops the server in order.
            self._process = subprocess.Popen(
                self._command,
                cwd=self.home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if self._await_ready:
            # Files are imported one after the other, and what is imported is served meanwhile.
            self.wait_until(lambda: self.is_ready() and self._ready_versions() >= self._sources, timeout_s=START_TIMEOUT_S)
        return self

    def send_signal(self, number: int) -> None:
        """Send a signal to the supervisor."""
        os.kill(self.pid, number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """The exit code, as subprocess gives it; raises subprocess.TimeoutExpired."""
        return self._started().wait(timeout_s)

    def stop(self, number: int = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Send a signal and wait for the exit code."""
        self.send_signal(number)
        return self.wait(timeout_s)

    def close(self) -> None:
        """End it, by force if need be, and remove its temporary home. Its processes die with their supervisor."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    # Where it is

    @property
    def url(self) -> str:
        """`http://127.0.0.1:PORT`."""
        self.wait_until(lambda: bool(self.state()), timeout_s=START_TIMEOUT_S)
        return str(self.state()["url"])

    @property
    def host(self) -> str:
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        return int(urlsplit(self.url).port or 0)

    @property
    def grpc_address(self) -> str:
        """`127.0.0.1:PORT`, what a gRPC client calls its target."""
        self.wait_until(lambda: bool(self.state()), timeout_s=START_TIMEOUT_S)
        return urlsplit(str(self.state()["grpc_url"])).netloc

    def state(self) -> dict[str, Any]:
        """What HOME/run/server-PID.json says now; empty before it is written. `models` has name, version, state and pid of each."""
        try:
            found: dict[str, Any] = json.loads((self.home / "run" / f"server-{self.pid}.json").read_bytes())
        except FileNotFoundError:
            return {}
        return found

    def log(self) -> str:
        """All that the server wrote to its terminal: stdout and stderr of every process."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    # Its processes

    @property
    def pid(self) -> int:
        """The supervisor's, which is also `towline serve`'s own."""
        return self._started().pid

    def pids(self) -> dict[str, list[int]]:
        """Role -> processes alive now: supervisor, front, controller, fork-server, worker (those in use and those spare)."""
        return roles_of(self.pid)

    @property
    def front_pid(self) -> int:
        return self._only("front")

    @property
    def controller_pid(self) -> int:
        return self._only("controller")

    @property
    def fork_server_pid(self) -> int:
        return self._only("fork-server")

    def worker_pid(self, model: str) -> int:
        """The process that runs a model now; waits until one is ready. The state file lags behind by up to a tenth of a second."""
        self.wait_until(lambda: self._worker_of(model) is not None)
        pid = self._worker_of(model)
        assert pid is not None
        return pid

    @staticmethod
    def rss_bytes(pid: int) -> int:
        """Resident memory of a process."""
        return resident_bytes(pid)

    # Asking it

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Status and body, on a connection of its own. Raises OSError, HTTPException."""
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        return self.ask("POST", path, body, headers)

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None, timeout_s: float = 120.0
    ) -> tuple[int, bytes]:
        connection = HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Whether /readyz says 200; False also when nobody answers."""
        try:
            return bool(self.state()) and self.get("/readyz")[0] == 200
        except (OSError, HTTPException):
            return False

    def wait_until(self, holds: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Look again and again until `holds()`. Raises RuntimeError with the end of the log when it does not, or the server has ended."""
        until = time.monotonic() + timeout_s
        while not holds():
            code = self._started().poll()
            if code is not None:
                raise RuntimeError(f"The server ended with exit code {code}:\n{self._last_words()}")
            if time.monotonic() > until:
                raise RuntimeError(f"Waited {timeout_s:g} s in vain:\n{self._last_words()}")
            time.sleep(_POLL_S)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("The server was not started.")
        return self._process

    def _only(self, role: str) -> int:
        # What was seen is what is returned: a process may end between two looks.
        found: list[int] = []

        def one_is_there() -> bool:
            found[:] = self.pids()[role]
            return len(found) == 1

        self.wait_until(one_is_there)
        return found[0]

    def _ready_versions(self) -> int:
        return len({(one["name"], one["version"]) for one in self.state().get("models", []) if one["state"] == "ready"})

    def _worker_of(self, model: str) -> int | None:
        for one in self.state().get("models", []):
            if one["name"] == model and one["state"] == "ready" and one["pid"]:
                return int(one["pid"])
        return None

    def _last_words(self) -> str:
        return self.log()[-4000:]
