"""A server under faults that need root or minutes: fifty kills, a full disk, sixty-four descriptors, no shared memory to speak of."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "serve" / "reliability"))

from known_models import mlp_asks
from leaks import MIB, prepare, settled, swap
from load import Load

from towline.app.importing.model import import_model
from towline.testing import tiny_models
from towline.testing.server import RunningServer

MODEL = tiny_models.mlp()
ASKS = mlp_asks("mlp", MODEL)
KILLS = 50
CYCLES = 300

pytestmark = pytest.mark.services
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, MODEL, "mlp.onnx")


class Wrapped(RunningServer):
    """A server started by another command: prlimit, unshare."""

    def __init__(self, *wrapper: str, sources: tuple[Path, ...], home: Path | None = None) -> None:
        super().__init__(*sources, home=home)
        self._command = [*wrapper, *self._command]


def test_no_request_fails_while_the_worker_is_killed_fifty_times(model: Path) -> None:
    with RunningServer(model) as server:
        with Load(server.host, server.port, ASKS) as load:
            for _ in range(KILLS):
                load.await_answers(200)
                killed = server.worker_pid("mlp")
                os.kill(killed, signal.SIGKILL)
                server.wait_until(lambda killed=killed: server.worker_pid("mlp") != killed)
        # Whoever was killed last may not have been taken note of yet.
        server.wait_until(lambda: zombies_of(server) == [])

    assert load.failures == []


def zombies_of(server: RunningServer) -> list[str]:
    """Processes that have ended and that their parent, one of the server's, has not taken note of."""
    own = {str(pid) for pids in server.pids().values() for pid in pids}
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state == "Z" and parent in own:
            found.append(place.parent.name)
    return found


def test_three_hundred_loads_and_unloads_leave_nothing_behind(tmp_path: Path) -> None:
    with RunningServer("wide@live", home=prepare(tmp_path), settings={"keep_versions_s": 0}) as server:
        swap(server, 10)
        before = settled(server)
        swap(server, CYCLES)
        after = settled(server, before)

    assert after.more_than(before) == {}
    assert (after.rss_bytes - before.rss_bytes) / MIB < 16


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit (util-linux)")
def test_with_sixty_four_descriptors_it_sheds_does_not_spin_and_recovers(model: Path) -> None:
    with Wrapped("prlimit", "--nofile=64:64", sources=(model,)) as server:
        kept = http.client.HTTPConnection(server.host, server.port, timeout=120)
        assert asked(kept) == ""
        crowd = [socket.create_connection((server.host, server.port), timeout=120) for _ in range(200)]
        try:
            busy_s = cpu_s(server.front_pid)
            began_s = time.monotonic()
            # Those who came before are served, and a worker that dies meanwhile is replaced.
            assert asked(kept) == ""
            killed = server_worker(server)
            os.kill(killed, signal.SIGKILL)
            assert asked(kept) == ""
            time.sleep(max(0.0, 2.0 - (time.monotonic() - began_s)))
            assert (cpu_s(server.front_pid) - busy_s) / (time.monotonic() - began_s) < 0.2
            server.wait_until(lambda: any(was_refused(one) for one in crowd))
        finally:
            for one in crowd:
                one.close()
        server.wait_until(server.is_ready)
        ask = ASKS[0]
        assert ask.check(*server.post(ask.path, ask.body)) == ""
        kept.close()
        log = server.log()

    assert "Traceback" not in log


def server_worker(server: RunningServer) -> int:
    return int(json.loads((server.home / "run" / f"server-{server.pid}.json").read_bytes())["models"][0]["pid"])


def was_refused(one: socket.socket) -> bool:
    """Whether it was told, so far, that there are too many. What it was told stays to be read."""
    one.setblocking(False)
    try:
        said = one.recv(4096, socket.MSG_PEEK)
    except OSError:
        return False
    return b" 503 " in said and b"TOO_MANY_CONNECTIONS" in said


def asked(connection: http.client.HTTPConnection) -> str:
    ask = ASKS[0]
    connection.request("POST", ask.path, ask.body)
    answer = connection.getresponse()
    return ask.check(answer.status, answer.read())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@needs_root
def test_serving_goes_on_when_the_disk_of_the_store_is_full_and_imports_work_again_when_it_is_not(model: Path, small_disk: Path) -> None:
    other = tiny_models.write(model.parent, tiny_models.mlp(seed=3), "other.onnx")
    with RunningServer(model, home=small_disk / "home") as server, Load(server.host, server.port, ASKS, clients=16) as load:
        load.await_answers(32)
        fill(small_disk / "ballast")
        # The controller has things to write down, and cannot.
        os.kill(server.worker_pid("mlp"), signal.SIGKILL)
        load.await_answers(200)
        with pytest.raises(Exception, match=r"(?i)space|full|no room"):
            import_model(other, name="mlp", home=small_disk / "home")
        load.await_answers(64)
        controller = server.controller_pid
        (small_disk / "ballast").unlink()
        import_model(other, name="mlp", home=small_disk / "home")
        server.wait_until(lambda: b'"2"' in server.get("/v1/models/mlp")[1] and b"AVAILABLE" in server.get("/v1/models/mlp")[1])
        assert server.controller_pid == controller

    # Answers of version 2 differ; nothing but that may be told.
    assert [failure for failure in load.failures if "wrong answer" not in failure] == []


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


@needs_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare (util-linux)")
@pytest.mark.parametrize("size", ["size=4k", "size=64k"])
def test_shared_memory_is_not_taken_from_dev_shm(model: Path, size: str) -> None:
    script = f'mount -t tmpfs -o {size} tmpfs /dev/shm && exec "$0" "$@"'
    with Wrapped("unshare", "-m", "sh", "-c", script, sources=(model,)) as server:
        load = Load(server.host, server.port, ASKS, clients=16)
        with load:
            load.await_answers(200)
            os.kill(server.worker_pid("mlp"), signal.SIGKILL)
            load.await_answers(200)

    assert load.failures == []
