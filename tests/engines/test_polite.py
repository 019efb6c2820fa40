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
from towline.engines import host, polite
from towline.engines.polite import POLITE, may_return_from_idle, policy_for, politely
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


def _works_until(policy: int) -> bool:
    """Work, not only wait, until this thread has that policy; False after half a minute."""
    until_s = time.monotonic() + 30
    while _own_policy() != policy:
        if time.monotonic() > until_s:
            return False
    return True


def test_long_work_takes_only_what_nobody_else_wants_where_that_can_be_taken_back(monkeypatch: pytest.MonkeyPatch):
    # However busy this machine is.
    monkeypatch.setattr(polite, "PATIENCE_S", 3600)
    before = _own_policy()

    assert politely(lambda: _works_until(os.SCHED_IDLE if may_return_from_idle() else before))
    assert _own_policy() == before


def test_work_that_is_starved_gets_its_low_priority_back_while_it_goes_on(monkeypatch: pytest.MonkeyPatch):
    # However idle this machine is.
    monkeypatch.setattr(polite, "PATIENCE_S", -3600)

    def rescued() -> tuple[bool, int]:
        if may_return_from_idle():
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        return _works_until(os.SCHED_OTHER), _own_priority()

    assert politely(rescued) == (True, _own_priority() + POLITE)


@pytest.mark.parametrize(
    ("ran_s", "waited_s", "policy"),
    [
        (0, 0, os.SCHED_OTHER),
        (0.09, 0, os.SCHED_OTHER),  # short work is soon over
        (0.2, 0, os.SCHED_IDLE),
        (0.2, 0.4, os.SCHED_IDLE),
        (0.2, 0.5, os.SCHED_OTHER),
        (5, 5, os.SCHED_IDLE),
        (5, 5.3, os.SCHED_OTHER),
    ],
)
def test_long_work_runs_in_idle_time_unless_it_waits_longer_than_it_runs(ran_s: float, waited_s: float, policy: int):
    assert policy_for(f"{int(ran_s * 1e9)} {int(waited_s * 1e9)} 17\n") == policy


def test_who_could_not_take_it_back_keeps_to_the_low_priority():
    """Without CAP_SYS_NICE and with no RLIMIT_NICE, as most servers run."""
    asked = """
        import os, threading, time
        from towline.engines.polite import may_return_from_idle, politely

        def seen():
            until_s = time.monotonic() + 0.5
            while time.monotonic() < until_s and os.sched_getscheduler(0) == os.SCHED_OTHER:
                pass
            return os.sched_getscheduler(0) == os.SCHED_OTHER, os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

        usual, priority = politely(seen)
        print(may_return_from_idle(), usual, priority - os.getpriority(os.PRIO_PROCESS, 0))
    """
    # 24 is PR_CAPBSET_DROP, 23 CAP_SYS_NICE: what runs next, even root, has it no more. Who is not root never had it.
    without = """
        import ctypes, os, resource, sys

        ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)
        resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    """
    command = [sys.executable, "-c", textwrap.dedent(without), textwrap.dedent(asked)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()

    assert said == ["False", "True", str(POLITE)]


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
