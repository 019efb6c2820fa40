"""Loading lets others go first, answering does not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from towline.app.importing.model import import_model
from towline.engines import host
from towline.engines.polite import POLITE, is_starved, may_return_from_idle, politely
from towline.serve.workers.local import LocalWorker
from towline.serve.workers.sizes import ArenaSize
from towline.testing import tiny_models


def _own_priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def lowered(priority: int, by: int) -> int:
    """Below the lowest there is nothing: these tests may be polite themselves."""
    return min(19, priority + by)


def test_polite_work_runs_at_a_lower_priority_and_leaves_the_callers_as_it_was():
    before = _own_priority()

    assert politely(_own_priority) == lowered(before, POLITE)
    assert _own_priority() == before


def _own_policy() -> int:
    return os.sched_getscheduler(0)


def test_polite_work_takes_only_what_nobody_else_wants_where_that_can_be_taken_back():
    before = _own_policy()

    assert politely(_own_policy) == (os.SCHED_IDLE if may_return_from_idle() else before)
    assert _own_policy() == before


def test_work_that_is_starved_gets_its_low_priority_back_while_it_goes_on():
    def until_rescued() -> tuple[int, int]:
        until_s = time.monotonic() + 30
        while _own_policy() == os.SCHED_IDLE and time.monotonic() < until_s:
            time.sleep(0.001)
        return _own_policy(), _own_priority()

    # Impatient: it seems starved at the first look.
    assert politely(until_rescued, patience_s=-3600) == (os.SCHED_OTHER, _own_priority() + POLITE)


@pytest.mark.parametrize(
    ("ran_s", "waited_s", "is_so"), [(0, 0, False), (0, 0.2, False), (0, 0.3, True), (5, 5, False), (5, 5.3, True), (0.001, 40, True)]
)
def test_work_is_starved_when_it_waits_for_a_core_longer_than_it_has_one(ran_s: float, waited_s: float, is_so: bool):
    assert is_starved(f"{int(ran_s * 1e9)} {int(waited_s * 1e9)} 17\n", patience_s=0.25) is is_so


def test_who_could_not_take_it_back_keeps_to_the_low_priority():
    """Without CAP_SYS_NICE and with no RLIMIT_NICE, as most servers run."""
    asked = """
        import os, threading
        from towline.engines.polite import politely

        seen = politely(lambda: (os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())))
        print(seen[0] == os.SCHED_OTHER, seen[1] - os.getpriority(os.PRIO_PROCESS, 0))
    """
    # 24 is PR_CAPBSET_DROP, 23 CAP_SYS_NICE: what runs next, even root, has it no more. Who is not root never had it.
    without = """
        import ctypes, os, resource, sys

        ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    """
    command = [sys.executable, "-c", textwrap.dedent(without), textwrap.dedent(asked)]

    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split() == ["True", str(POLITE)]


def test_what_polite_work_raises_reaches_the_caller():
    def work() -> None:
        raise KeyError("torn")

    with pytest.raises(KeyError, match="torn"):
        politely(work)


@pytest.mark.parametrize(("threads", "politeness"), [(1, POLITE), (2, 0)])
def test_what_starts_no_threads_is_loaded_politely(threads: int, politeness: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Threads that were started politely would help runs politely ever after."""
    seen: list[int] = []
    whole = host.load_session

    def looked_at(*arguments: object) -> object:
        seen.append(_own_priority())
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(host, "load_session", looked_at)
    version = import_model(tiny_models.write(tmp_path, tiny_models.identity(), "same.onnx"), home=tmp_path / "home").version
    before = _own_priority()
    message = {"folder": str(version.path), "digest": version.digest, "manifest": (version.path / "manifest.json").read_text()}
    link, control = socket.socketpair()
    arena = ArenaSize(slots=1, slot_bytes=1 << 20).create()

    with link, control:
        worker = host.Host(lambda: host.load_engine("onnxruntime"), link, control)
        worker._load(message | {"slots": 1, "slot_bytes": 1 << 20, "device": "cpu", "threads": threads}, list(arena.worker_descriptors()))

    assert seen == [lowered(before, politeness)]
    assert _own_priority() == before


def test_the_threads_that_answer_keep_their_priority(tmp_path: Path):
    version = import_model(tiny_models.write(tmp_path, tiny_models.identity(), "same.onnx"), home=tmp_path / "home").version
    with LocalWorker.start(version.path, version.manifest) as worker:
        worker._ask({"do": "start", "threads": 3}, (), 60.0)
        threads = [int(name) for name in os.listdir(f"/proc/{worker.pid}/task")]

        assert len(threads) >= 4
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {_own_priority()}
