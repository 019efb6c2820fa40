"""Where the gRPC servers listen, and how many connections they take."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import grpc
import pytest
from stubs import method

from towline.core.errors import TowlineError
from towline.serve.protocols.grpc.addresses import hosts_for, local_ipv4
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.testing.server import RunningServer

TABLE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
        |-- 127.0.0.1
           /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
        |-- 192.0.2.0
           /24 link UNICAST
        |-- 192.0.2.20
           /32 host LOCAL
        |-- 192.0.2.3
           /32 host LOCAL
Local:
        |-- 127.0.0.1
           /32 host LOCAL
"""
# An HTTP/2 client's first words, and empty settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def listening_on(port: int) -> dict[str, list[str]]:
    """Local addresses of TCP sockets that listen on a port, IPv4's and IPv6's, in hex."""
    found: dict[str, list[str]] = {}
    for family in ("tcp", "tcp6"):
        lines = [line.split() for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]]
        found[family] = [fields[1].split(":")[0] for fields in lines if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == port]
    return found


def test_the_machines_own_addresses_are_told_from_networks_and_broadcasts() -> None:
    assert local_ipv4(TABLE) == ["127.0.0.1", "192.0.2.3", "192.0.2.20"]


def test_any_address_but_that_for_all_is_taken_as_it_is(tmp_path: Path) -> None:
    for host in ("127.0.0.1", "::1", "::", "192.0.2.3"):
        assert hosts_for(host, tmp_path / "nothing") == [host]
    with pytest.raises(TowlineError, match=r"cannot tell this machine's IPv4 addresses"):
        hosts_for("0.0.0.0", tmp_path / "nothing")


@pytest.mark.parametrize("flags", [(), ("--grpc", "native")], ids=["aio", "native"])
def test_on_all_ipv4_addresses_it_does_not_listen_on_ipv6(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with RunningServer(home=tmp_path / "home", flags=("--host", "0.0.0.0", "--insecure", *flags)) as server:
        port = int(server.grpc_address.rpartition(":")[2])
        found = listening_on(port)

        # gRPC's library holds IPv4 addresses in their IPv6 form.
        assert found["tcp"] or found["tcp6"]
        assert all(address.startswith("0000000000000000FFFF0000") for address in found["tcp6"]), found
        for host in hosts_for("0.0.0.0"):
            with grpc.insecure_channel(f"{host}:{port}") as channel:
                live = method(channel, "inference.GRPCInferenceService/ServerLive", "inference.ServerLiveResponse")
                assert live(MESSAGES["inference.ServerLiveRequest"](), timeout=60).live


def test_connections_are_bounded_and_one_that_closes_makes_room(tmp_path: Path) -> None:
    with RunningServer(home=tmp_path / "home", settings={"max_connections": 16}) as server, contextlib.ExitStack() as open_ones:
        host, _, port = server.grpc_address.rpartition(":")

        def connect() -> tuple[socket.socket, bool]:
            """A connection, and whether the server speaks on it."""
            client = open_ones.enter_context(socket.create_connection((host, int(port)), timeout=30))
            client.sendall(PREFACE)
            try:
                return client, bool(client.recv(64))
            except ConnectionResetError:
                return client, False

        (first, *_), *others = connect(), connect(), connect()
        assert [taken for _, taken in others] == [True, False]
        first.close()
        server.wait_until(lambda: connect()[1])
