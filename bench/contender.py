"""A peer that runs on this machine and was found to answer rightly; the load it is put under."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc

import bodies
import h2load
import processes
import wrk
from against.peer import Peer, Setting
from bodies import Body
from models import Model
from wrk import Sample

READY_TIMEOUT_S = 90.0
# A server that answers, and never rightly, will not learn it; some say 404 or 503 while they load.
WRONG_TIMEOUT_S = 20.0
PREPARE_TIMEOUT_S = 120.0
POLL_S = 0.005
CALL_TIMEOUT_S = 10.0
# While a server starts: a call that reached a port nobody serves yet must not hold up the next one.
EARLY_TIMEOUT_S = 1.0


class NotMeasured(Exception):
    """A server that did not start, or answered wrongly; says why in a line."""


@dataclass(frozen=True)
class Contender:
    """`body` is what it is asked: an HTTP body or a gRPC message. `start_s` is the time from the command to the first right answer."""

    peer: Peer
    model: Model
    server: processes.Server
    folder: Path
    port: int
    body: Body
    over_grpc: bool = False
    start_s: float = 0.0

    @property
    def url(self) -> str:
        path = self.peer.grpc_path if self.over_grpc else self.peer.requests[self.model.name].path
        return f"http://127.0.0.1:{self.port}{path}"

    def ask(self, timeout_s: float = CALL_TIMEOUT_S) -> bytes:
        """One answer. Raises OSError or grpc.RpcError."""
        if self.over_grpc:
            # Channels share what they learned of an address: a second one would wait as long as the first after a refusal.
            with grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                answer: bytes = channel.unary_unary(self.peer.grpc_path)(self.body.content, timeout=timeout_s)
                return answer
        request = urllib.request.Request(self.url, self.body.content, self.body.headers)
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            content: bytes = response.read()
            return content

    def wrongness(self, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """What is wrong with its answer now; empty when nothing is."""
        try:
            return bodies.wrongness(self.ask(timeout_s), self.model.right)
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}: {error.read()[:300].decode(errors='replace')}"
        except (OSError, http.client.HTTPException, grpc.RpcError) as error:
            return f"{type(error).__name__}: {str(error)[:300]}"

    def drive(self, *, clients: int, seconds: int, cores: set[int]) -> Sample:
        """Load from `cores`. Raises NotMeasured when it answers wrongly afterwards."""
        path = self.folder / "body.bin"
        if self.over_grpc:
            path.write_bytes(h2load.framed(self.body.content))
            size = len(h2load.framed(self.ask()))
            seen = h2load.drive(
                self.server, self.url, path, size, clients=clients, seconds=seconds, cores=cores, log=self.folder / "h2load.log"
            )
        else:
            path.write_bytes(self.body.content)
            seen = wrk.drive(self.server, self.url, path, self.body.headers, clients=clients, seconds=seconds, cores=cores)
        if problem := self.wrongness():
            raise NotMeasured(f"after {seconds} s of {clients} clients: {problem}")
        return seen


@contextmanager
def started(
    peer: Peer, model: Model, python: Path, folder: Path, *, cores: set[int], batching: bool = False, over_grpc: bool = False
) -> Iterator[Contender]:
    """The peer on `cores`, stopped at exit with all it started. Raises NotMeasured; `folder` must not exist."""
    folder.mkdir()
    scratch = folder / "scratch"
    scratch.mkdir()
    ports = [processes.free_port() for _ in range(3)]
    start = peer.start(Setting(python, model, scratch, *ports, batching=batching))
    log, body = folder / "log", _body(peer, model, over_grpc)
    for command in start.prepare:
        prepare(command, dict(start.environment), scratch)
    begun_s = time.monotonic()
    with processes.running(start.command, log=log, environment=start.environment, core=cores, folder=scratch) as server:
        contender = Contender(peer, model, server, folder, ports[over_grpc], body, over_grpc)
        wait_for_right_answer(contender, begun_s, log)
        yield replace(contender, start_s=time.monotonic() - begun_s)


def _body(peer: Peer, model: Model, over_grpc: bool) -> Body:
    if over_grpc:
        return Body(h2load.model_infer(peer.grpc_model or model.name, model))
    return peer.requests[model.name].dialect(model)


def prepare(command: list[str], environment: dict[str, str], folder: Path) -> None:
    done = subprocess.run(
        command, env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True, timeout=PREPARE_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        raise NotMeasured(f"{Path(command[0]).name} ended with exit code {done.returncode}: {reason(done.stderr or done.stdout)}")


def wait_for_right_answer(contender: Contender, begun_s: float, log: Path) -> None:
    problem, until_s = "", begun_s + READY_TIMEOUT_S
    while time.monotonic() < until_s:
        problem = contender.wrongness(EARLY_TIMEOUT_S)
        if not problem:
            return
        if "refused" not in problem:
            until_s = min(until_s, time.monotonic() + WRONG_TIMEOUT_S)
        if contender.server.process.poll() is not None:
            code = contender.server.process.returncode
            raise NotMeasured(f"it ended with exit code {code}: {reason(log.read_text(errors='replace'))}")
        time.sleep(POLL_S)
    raise NotMeasured(f"no right answer after {time.monotonic() - begun_s:.0f} s: {problem or reason(log.read_text(errors='replace'))}")


def reason(text: str) -> str:
    """The last line of what a process said that names an error, else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "error" in line.lower() or "exception" in line.lower()]
    return (named or lines or ["it said nothing"])[-1][:200]
