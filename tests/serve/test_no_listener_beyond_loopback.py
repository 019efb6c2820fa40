"""Threat T1: as started, nobody beyond this machine can reach any process of the server; wider only by name; and a port in use is said."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from towline.testing import tiny_models
from towline.testing.server import RunningServer

LISTENING = "0A"
SERVE = [sys.executable, "-c", "import sys; from towline.cli.main import main; sys.exit(main())", "serve"]


@dataclass(frozen=True)
class Listener:
    address: str
    port: int


def listeners_of(pids: list[int]) -> set[Listener]:
    """TCP sockets in LISTEN that any of the processes holds, IPv4 and IPv6."""
    inodes = {match.group(1) for pid in pids for link in _links(pid) if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                found.add(Listener(socket.inet_ntop(family, _bytes(address)), int(port, 16)))
    return found


def grpc_port(server: RunningServer) -> int:
    return int(server.grpc_address.rpartition(":")[2])


def _links(pid: int) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    links = []
    for descriptor in folder.iterdir():
        try:
            links.append(os.readlink(descriptor))
        except FileNotFoundError:
            continue
    return links


def _bytes(address: str) -> bytes:
    """The kernel prints words of four bytes in the machine's own order."""
    words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    return b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)


def refused(*words: str, home: Path) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOWLINE_")}
    command = [*SERVE, "--home", str(home), *words]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, timeout=180, check=False)
    return done.returncode, done.stderr


def test_as_started_only_the_supervisor_and_the_front_listen_and_only_on_loopback(tmp_path: Path) -> None:
    with RunningServer(tiny_models.write(tmp_path, tiny_models.identity(), "m.onnx")) as server:
        roles = server.pids()
        # gRPC's library holds IPv4 addresses in their IPv6 form.
        expected = {Listener("127.0.0.1", server.port), Listener("::ffff:127.0.0.1", grpc_port(server))}

        assert listeners_of([pid for pids in roles.values() for pid in pids]) == expected
        assert listeners_of(roles["front"]) == expected
        assert listeners_of([*roles["worker"], *roles["controller"], *roles["fork-server"]]) == set()


def test_the_look_into_proc_sees_a_listener_on_every_address() -> None:
    with socket.create_server(("0.0.0.0", 0)) as wide, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        assert listeners_of([os.getpid()]) == {Listener("0.0.0.0", wide.getsockname()[1]), Listener("::1", six.getsockname()[1])}


def test_on_loopback_of_ipv6_it_listens_there_alone(tmp_path: Path) -> None:
    with RunningServer(home=tmp_path / "home", flags=("--host", "::1")) as server:
        pids = [pid for pids in server.pids().values() for pid in pids]
        assert listeners_of(pids) == {Listener("::1", server.port), Listener("::1", grpc_port(server))}
        assert server.get("/livez")[0] == 200


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "127.0.0.1.example.org", "::ffff:0.0.0.0", "0", "localhost.example.org"]
)
def test_refuses_to_listen_more_widely_without_insecure(tmp_path: Path, host: str) -> None:
    code, said = refused("--host", host, "--port", "0", home=tmp_path)

    assert code == 2, said
    assert "--insecure" in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 3


def test_listens_more_widely_when_told_so_by_name_and_answers_for_any_host(tmp_path: Path) -> None:
    with RunningServer(home=tmp_path / "home", flags=("--host", "0.0.0.0", "--insecure", "--grpc-port", "-1")) as server:
        assert {one.address for one in listeners_of(server.pids()["front"])} == {"0.0.0.0"}
        assert server.get("/livez", {"Host": "models.example.org"})[0] == 200


def test_a_port_in_use_is_said_with_who_uses_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = refused("--port", str(port), home=tmp_path)

    assert code == 2
    assert f"Port {port} of 127.0.0.1 is in use by process {os.getpid()}" in said
    assert "--port 0" in said
    assert "Traceback" not in said


def test_two_servers_on_one_port_are_told_apart(tmp_path: Path) -> None:
    with RunningServer(home=tmp_path / "one") as server:
        code, said = refused("--port", str(server.port), home=tmp_path)

        assert code == 2
        holders = {server.pid, server.front_pid}
        assert [pid for pid in holders if f"in use by process {pid}" in said]
        assert server.is_ready()
