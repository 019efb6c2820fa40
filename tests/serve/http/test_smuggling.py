"""Threat T18: whatever two servers could read differently is refused, and what follows it on the connection is never answered."""

from __future__ import annotations

import random

import pytest

from raw import LIVEZ, all_answers, is_well
from towline.testing.server import RunningServer

SECOND = b"GET /second HTTP/1.1\r\nHost: localhost\r\n\r\n"
_FUZZ = random.Random(5).randbytes(1024)


def head(*lines: str, start: str = "POST /v1/models/m:predict HTTP/1.1", host: str = "Host: localhost\r\n") -> bytes:
    fields = "".join(line + "\r\n" for line in lines)
    return f"{start}\r\n{host}{fields}\r\n".encode("latin-1")


def chunks(body: bytes) -> bytes:
    return head("Transfer-Encoding: chunked") + body


# What is sent -> the status it gets. Each is followed by a second request on the same connection.
CASES: dict[str, tuple[bytes, int]] = {
    "length and chunked": (head("Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "chunked and length": (head("Transfer-Encoding: chunked", "Content-Length: 5") + b"0\r\n\r\n", 400),
    "gzip, then chunked": (head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 400),
    "chunked, then identity": (head("Transfer-Encoding: chunked, identity") + b"0\r\n\r\n", 400),
    "chunked twice": (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
    "identity": (head("Transfer-Encoding: identity", "Content-Length: 0"), 400),
    "xchunked": (head("Transfer-Encoding: xchunked") + b"0\r\n\r\n", 400),
    "chunked in quotes": (head('Transfer-Encoding: "chunked"') + b"0\r\n\r\n", 400),
    "chunked behind a vertical tab": (head("Transfer-Encoding: \x0bchunked") + b"0\r\n\r\n", 400),
    "no coding": (head("Transfer-Encoding: ", "Content-Length: 0"), 400),
    "chunked in HTTP/1.0": (head("Transfer-Encoding: chunked", start="POST /v1/models/m:predict HTTP/1.0") + b"0\r\n\r\n", 400),
    "two lengths": (head("Content-Length: 0", "Content-Length: 40"), 400),
    "two equal lengths": (head("Content-Length: 0", "Content-Length: 0"), 400),
    "a list of lengths": (head("Content-Length: 0, 0"), 400),
    "a signed length": (head("Content-Length: +0"), 400),
    "a negative length": (head("Content-Length: -1"), 400),
    "a hexadecimal length": (head("Content-Length: 0x0"), 400),
    "an empty length": (head("Content-Length: "), 400),
    "a length of two numbers": (head("Content-Length: 0 40"), 400),
    "a length of 2^64": (head("Content-Length: 18446744073709551616"), 400),
    "a length of 2^63": (head("Content-Length: 9223372036854775808"), 413),
    "bare line feeds": (b"GET /livez HTTP/1.1\nHost: localhost\n\n", 400),
    "a bare line feed in the head": (b"GET /livez HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400),
    "a bare line feed at its end": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\n", 400),
    "a bare carriage return": (b"GET /livez HTTP/1.1\r\nHost: localhost\rX: y\r\n\r\n", 400),
    "a folded header": (head("X: a\r\n b", start="GET /livez HTTP/1.1"), 400),
    "a header that begins with a space": (b"GET /livez HTTP/1.1\r\n Host: localhost\r\n\r\n", 400),
    "a space before the colon": (b"GET /livez HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
    "a tab before the colon": (head("Content-Length\t: 40"), 400),
    "no colon": (head("Content-Length"), 400),
    "no name": (head(": x"), 400),
    "NUL in a value": (head("X: a\0b"), 400),
    "NUL in a name": (head("X\0: a"), 400),
    "DEL in a value": (head("X: a\x7f"), 400),
    "two Hosts": (head("Host: localhost", start="GET /livez HTTP/1.1"), 400),
    "no Host": (head(start="GET /livez HTTP/1.1", host=""), 400),
    "an empty Host": (head(start="GET /livez HTTP/1.1", host="Host: \r\n"), 400),
    "a Host with a control character": (head(start="GET /livez HTTP/1.1", host="Host: local\x01host\r\n"), 400),
    "a Host that is no name": (head(start="GET /livez HTTP/1.1", host="Host: localhost/x\r\n"), 400),
    "a Host with a user": (head(start="GET /livez HTTP/1.1", host="Host: a@localhost\r\n"), 400),
    "a foreign Host": (head(start="GET /livez HTTP/1.1", host="Host: evil.example\r\n"), 421),
    "a foreign host in the target": (head(start="GET http://evil.example/livez HTTP/1.1"), 421),
    "a user in the target": (head(start="GET http://localhost@evil.example/livez HTTP/1.1"), 400),
    "a target without a path": (head(start="GET localhost HTTP/1.1"), 400),
    "an authority for a target": (head(start="GET localhost:80 HTTP/1.1"), 400),
    "CONNECT": (head(start="CONNECT localhost:80 HTTP/1.1"), 400),
    "a target of 10 KB": (head(start=f"GET /{'a' * 10_000} HTTP/1.1"), 431),
    "bytes above 127 in the target": (head(start="GET /\xff HTTP/1.1"), 400),
    "a space in the target": (head(start="GET /a b HTTP/1.1"), 400),
    "HTTP/0.9": (b"GET /livez\r\n\r\n", 400),
    "HTTP/0.9 by name": (head(start="GET /livez HTTP/0.9"), 400),
    "HTTP/9.9": (head(start="GET /livez HTTP/9.9"), 400),
    "HTTP/2.0": (head(start="GET /livez HTTP/2.0"), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "hello in TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(160), 400),
    "a kilobyte of noise": (_FUZZ, 400),
    "a method that is none": (head(start="PWN /livez HTTP/1.1"), 400),
    "a method in lower case": (head(start="get /livez HTTP/1.1"), 400),
    "a chunk of 2^76": (chunks(b"f" * 19 + b"\r\n"), 400),
    "a negative chunk": (chunks(b"-1\r\n"), 400),
    "a chunk in 0x": (chunks(b"0x1\r\nx\r\n0\r\n\r\n"), 400),
    "a chunk size and a space": (chunks(b"1 \r\nx\r\n0\r\n\r\n"), 400),
    "a chunk longer than it says": (chunks(b"1\r\nxy\r\n0\r\n\r\n"), 400),
    "a chunk ended by a line feed": (chunks(b"1\r\nx\n0\r\n\r\n"), 400),
    "a chunk size ended by a line feed": (chunks(b"1\nx\r\n0\r\n\r\n"), 400),
    "a chunk extension ended by a line feed": (chunks(b"1;a\nx\r\n0\r\n\r\n"), 400),
    "a length in the trailers": (chunks(b"1\r\nx\r\n0\r\nContent-Length: 40\r\n\r\n"), 400),
    "what follows Connection: close": (head("Connection: close", start="GET /livez HTTP/1.1"), 200),
    "what follows HTTP/1.0": (head(start="GET /livez HTTP/1.0"), 200),
}


@pytest.mark.parametrize("name", CASES)
def test_a_request_that_two_servers_could_read_differently_is_refused_and_the_next_is_never_answered(
    server: RunningServer, name: str
) -> None:
    first, status = CASES[name]
    logged = len(server.log().splitlines())

    answers = all_answers(server, first + SECOND + LIVEZ)

    assert [answer.status for answer in answers] == [status]
    (answer,) = answers
    assert answer.one("connection") == "close"
    assert answer.one("content-type") == "application/json"
    assert len(answer.body) <= 2048
    if status != 200:
        assert set(answer.json()["error"]) == {"code", "message", "field", "request_id"}
    assert len(server.log().splitlines()) <= logged + 1


def test_after_all_of_them_the_server_is_as_good_as_before(server: RunningServer) -> None:
    workers = server.pids()["worker"]
    for first, _ in CASES.values():
        all_answers(server, first)

    assert is_well(server)
    assert server.pids()["worker"] == workers
