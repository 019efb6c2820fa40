"""The ports of a server are taken before it starts, and by nobody twice."""

from __future__ import annotations

import os
import socket

import pytest

from towline.app.serving.listening import address_of, listen, reserve
from towline.core.errors import UsageError


def test_a_reserved_port_is_refused_to_the_next_server_although_nobody_listens_yet() -> None:
    with reserve("127.0.0.1", 0) as keeper, pytest.raises(UsageError, match="in use") as caught:
        reserve("127.0.0.1", keeper.getsockname()[1])

    assert (caught.value.code, caught.value.field) == ("PORT_IN_USE", "grpc_port")
    assert "--grpc-port 0" in caught.value.hint


def test_one_of_ours_may_listen_on_a_reserved_port_and_then_its_successor() -> None:
    with reserve("127.0.0.1", 0) as keeper:
        for _ in range(2):
            with socket.socket() as front:
                for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                    front.setsockopt(socket.SOL_SOCKET, option, 1)
                front.bind(keeper.getsockname())
                front.listen()
                with socket.create_connection(keeper.getsockname(), timeout=5), pytest.raises(UsageError, match="in use"):
                    reserve(*keeper.getsockname())


def test_a_reserved_port_refuses_connections_until_somebody_listens() -> None:
    with reserve("127.0.0.1", 0) as keeper, pytest.raises(ConnectionRefusedError):
        socket.create_connection(keeper.getsockname(), timeout=5)


def test_who_listens_is_named() -> None:
    with listen("127.0.0.1", 0) as listener, pytest.raises(UsageError, match=f"in use by process {os.getpid()}"):
        reserve("127.0.0.1", listener.getsockname()[1])


def test_an_address_of_ipv6_is_in_brackets() -> None:
    try:
        listener = listen("::1", 0)
    except UsageError:
        pytest.skip("there is no IPv6 here")
    with listener:
        assert address_of(listener) == f"[::1]:{listener.getsockname()[1]}"
