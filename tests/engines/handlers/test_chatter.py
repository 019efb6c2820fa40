"""What a handler prints reaches the log line by line, printable and bounded."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from towline.engines.handlers.chatter import BURST_BYTES, BYTES_PER_S, MAX_LINE_CHARS, Chatter


def test_lines_are_marked_and_come_when_they_are_whole() -> None:
    chatter = Chatter("Mine[7]", 0.0)

    assert chatter.take(b"one\ntw", 0.0) == b"Mine[7]: one\n"
    assert chatter.take(b"o\n\n", 0.0) == b"Mine[7]: two\nMine[7]: \n"
    assert chatter.take(b"rest", 0.0) == b""
    assert chatter.end() == b"Mine[7]: rest\n"


def test_what_is_not_printable_is_escaped() -> None:
    raw = b"\x1b[31mred\x07 \xff \xe2\x80\xae\ttab\r\n"

    assert Chatter("M", 0.0).take(raw, 0.0).decode() == "M: \\x1b[31mred\\x07 \ufffd \\u202e  tab\n"


def test_long_lines_are_cut_and_lines_without_end_are_not_kept() -> None:
    chatter = Chatter("M", 0.0)

    (line,) = chatter.take(b"x" * 100_000, 0.0).decode().splitlines()

    assert len(line) == len("M: ") + MAX_LINE_CHARS
    assert chatter.end() == b""


def test_a_flood_is_cut_off_and_what_was_left_out_is_counted() -> None:
    chatter = Chatter("M", 0.0)
    flood = b"line\n" * 200_000

    first = chatter.take(flood, 0.0)
    silent = chatter.take(b"another\n", 0.0)
    later = chatter.take(b"later\n", 10.0)

    assert len(first) <= BURST_BYTES + 100
    assert silent == b""
    left_out = 200_000 - first.count(b"\n") + 1
    assert later == f"M: … {left_out} lines left out\nM: later\n".encode()


@given(st.lists(st.tuples(st.binary(max_size=5000), st.floats(0, 2)), max_size=30))
def test_whatever_is_printed_the_log_grows_no_faster_than_it_may(chunks: list[tuple[bytes, float]]) -> None:
    chatter, now_s, written = Chatter("M", 0.0), 0.0, b""
    for chunk, pause_s in chunks:
        now_s += pause_s
        written += chatter.take(chunk, now_s)
    written += chatter.end()

    assert len(written) <= BURST_BYTES + BYTES_PER_S * now_s + 12 * MAX_LINE_CHARS
    assert all(line.startswith("M: ") and line.isprintable() for line in written.decode().split("\n")[:-1])


def test_both_outputs_and_what_a_library_writes_by_itself_are_heard() -> None:
    code = (
        "import os, sys\n"
        "from towline.engines.handlers import chatter\n"
        "end = chatter.listen('Mine')\n"
        "print('printed')\n"
        "os.write(1, b'written\\n')\n"
        "sys.stderr.write('complained\\n')\n"
        "end()\n"
        "print('after')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)

    heard = sorted(line.partition(": ")[2] for line in ran.stderr.splitlines() if line.startswith("Mine["))
    assert heard == ["complained", "printed", "written"]
