"""Loading lets others go first, answering does not."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from towline.app.importing.model import import_model
from towline.engines import host
from towline.engines.polite import POLITE, politely
from towline.serve.workers.local import LocalWorker
from towline.serve.workers.sizes import ArenaSize
from towline.testing import tiny_models


def _own_priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_polite_work_runs_at_a_lower_priority_and_leaves_the_callers_as_it_was():
    before = _own_priority()

    assert politely(_own_priority) == before + POLITE
    assert _own_priority() == before


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

    assert seen == [before + politeness]
    assert _own_priority() == before


def test_the_threads_that_answer_keep_their_priority(tmp_path: Path):
    version = import_model(tiny_models.write(tmp_path, tiny_models.identity(), "same.onnx"), home=tmp_path / "home").version
    with LocalWorker.start(version.path, version.manifest) as worker:
        worker._ask({"do": "start", "threads": 3}, (), 5.0)
        threads = [int(name) for name in os.listdir(f"/proc/{worker.pid}/task")]

        assert len(threads) >= 4
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {_own_priority()}
