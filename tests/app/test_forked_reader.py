"""A model is read by a fork of the fork server where there is one, and by a new Python where nobody makes one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from towline.app.serving import spawning
from towline.app.serving.inbox import Inbox
from towline.app.serving.spawning import ForkedWorkers
from towline.convert.onnx import Inspection
from towline.core import channel
from towline.core.errors import ImportRefused, Unavailable
from towline.testing import tiny_models


@pytest.fixture
def supervisor() -> Iterator[tuple[socket.socket, ForkedWorkers]]:
    """The supervisor's end of a controller's channel, and what the controller makes processes with."""
    ours, theirs = channel.channel()
    with ours, theirs:
        yield ours, ForkedWorkers(Inbox(theirs), max_request_bytes=1 << 20)


def wish_of(end: socket.socket) -> dict[str, Any]:
    """What was asked of the supervisor, which keeps nothing of it."""
    message, descriptors = channel.receive(end) or ({}, [])
    for descriptor in descriptors:
        os.close(descriptor)
    return message


def test_without_anybody_who_forks_a_new_python_reads_the_model(supervisor: tuple[socket.socket, ForkedWorkers], tmp_path: Path) -> None:
    end, workers = supervisor
    channel.send(end, {"to": "controller", "do": "born", "wish": 1, "pid": 0})

    with Inspection(tiny_models.write(tmp_path, tiny_models.mlp()), start=workers.start_reader) as inspection:
        wish_of(end)
        assert inspection.result().functions == 0


def test_while_it_is_not_known_whether_one_was_forked_no_other_is_started(
    supervisor: tuple[socket.socket, ForkedWorkers], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawning, "_BIRTH_WAIT_S", 0.01)

    with pytest.raises(Unavailable, match="to read the model"):
        Inspection(tiny_models.write(tmp_path, tiny_models.mlp()), start=supervisor[1].start_reader)


def test_a_forked_reader_that_dies_is_told_of_with_its_signal(supervisor: tuple[socket.socket, ForkedWorkers], tmp_path: Path) -> None:
    end, workers = supervisor
    # Whom it is about is known only once it was born, and that it ended is heard before anybody asks.
    channel.send(end, {"to": "controller", "do": "born", "wish": 1, "pid": 77})
    channel.send(end, {"to": "controller", "do": "exited", "pid": 77, "signal": 11, "status": 0, "out_of_memory": False})

    with Inspection(tiny_models.write(tmp_path, tiny_models.mlp()), start=workers.start_reader) as inspection:
        message = wish_of(end)
        assert (message["do"], message["words"][0], message["places"]) == ("fork", "towline.convert.inspect", ["stdout", "stderr", "life"])
        with pytest.raises(ImportRefused, match="was killed by SIGSEGV"):
            inspection.result()
