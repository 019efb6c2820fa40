"""The controller says at once that it heard a question, keeps the order of what it is told, and only the newest state."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from towline.app.serving.inbox import Inbox
from towline.core import channel


@pytest.fixture
def ends() -> Iterator[tuple[Inbox, socket.socket]]:
    ours, theirs = channel.channel()
    inbox = Inbox(ours)
    yield inbox, theirs
    theirs.close()
    while not inbox.is_closed:
        inbox.receive(30)
    ours.close()


def test_a_question_is_heard_before_anybody_looks_into_the_inbox(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    channel.send(supervisor, {"do": "control", "id": "7", "ask": {}})

    assert channel.receive(supervisor) == ({"to": "front", "do": "control-heard", "id": "7"}, [])
    letter = inbox.receive(30)
    assert letter is not None
    assert letter[0]["id"] == "7"


def test_of_states_only_the_newest_is_kept_and_all_else_in_its_order(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    for number in range(3):
        channel.send(supervisor, {"do": "event", "number": number})
        channel.send(supervisor, {"do": "state", "number": number})
    # Heard: so what came before it was read.
    channel.send(supervisor, {"do": "control", "id": "last"})
    channel.receive(supervisor)
    # The question is put in after it is acknowledged.
    got = []
    while not got or got[-1]["do"] != "control":
        letter = inbox.receive(30)
        assert letter is not None
        got.append(letter[0])

    assert [(one["do"], one.get("number")) for one in got] == [("event", 0), ("event", 1), ("event", 2), ("state", 2), ("control", None)]


def test_descriptors_come_with_their_message(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    content = os.memfd_create("content")
    os.write(content, b"files")
    channel.send(supervisor, {"do": "event"}, (content,))
    os.close(content)
    letter = inbox.receive(30)
    assert letter is not None
    (descriptor,) = letter[1]

    assert os.pread(descriptor, 10, 0) == b"files"
    os.close(descriptor)


def test_the_end_is_seen_once_all_that_was_said_is_read(ends: tuple[Inbox, socket.socket]) -> None:
    inbox, supervisor = ends
    channel.send(supervisor, {"do": "event"})
    supervisor.close()

    assert inbox.receive(30) is not None
    assert inbox.receive(30) is None
    assert inbox.is_closed
