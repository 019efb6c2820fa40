"""HTTP answers are read to their ends, however they are cut into pieces."""

from __future__ import annotations

import pytest

from towline.verify.load.answers import Answers, NotHttp

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
LOWER = b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length:2\r\n\r\nno"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
ZERO = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-Trailer: 1\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN


@pytest.mark.parametrize(
    ("raw", "statuses"),
    [
        (PLAIN, [200]),
        (LOWER, [404]),
        (EMPTY, [204]),
        (ZERO, [200]),
        (CHUNKED, [200]),
        (CONTINUED, [200]),
        (PLAIN + LOWER + CHUNKED + EMPTY + ZERO + PLAIN, [200, 404, 200, 204, 200, 200]),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 20])
def test_answers_are_found_whatever_pieces_they_come_in(raw: bytes, statuses: list[int], size: int) -> None:
    answers = Answers()

    found = [status for start in range(0, len(raw), size) for status in answers.feed(raw[start : start + size])]

    assert found == statuses
    assert not answers.is_last


@pytest.mark.parametrize(("raw", "body"), [(PLAIN, b"hello"), (CHUNKED, b"hello world"), (ZERO, b"")])
@pytest.mark.parametrize("size", [1, 4, 1 << 20])
def test_a_body_is_kept_when_it_is_wanted(raw: bytes, body: bytes, size: int) -> None:
    answers = Answers(keep_body=True)

    for start in range(0, len(raw), size):
        answers.feed(raw[start : start + size])

    assert answers.body == body


@pytest.mark.parametrize(
    ("head", "is_last"),
    [
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", True),
        (b"HTTP/1.0 200 OK\r\n", True),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n", False),
    ],
)
def test_a_server_that_will_close_is_noticed(head: bytes, is_last: bool) -> None:
    answers = Answers()

    assert answers.feed(head + b"Content-Length: 1\r\n\r\nx") == [200]
    assert answers.is_last is is_last


def test_an_answer_without_a_length_lasts_until_the_connection_ends() -> None:
    answers = Answers()

    assert answers.feed(b"HTTP/1.1 200 OK\r\n\r\nsome of it") == []
    assert answers.end() == [200]
    assert answers.is_last


def test_a_torn_answer_is_no_answer() -> None:
    answers = Answers()

    assert answers.feed(PLAIN[:-1]) == []
    assert answers.end() == []


@pytest.mark.parametrize(
    "raw", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"x" * 70_000, CHUNKED.replace(b"5\r\nhello", b"zz\r\nhello")]
)
def test_what_is_no_http_is_refused(raw: bytes) -> None:
    with pytest.raises(NotHttp):
        Answers().feed(raw)
