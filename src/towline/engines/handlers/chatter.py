"""What a user's code prints, passed on to the log line by line: marked as his, made printable, and never more than the log can bear."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable

MAX_LINE_CHARS = 1000
# So much at once, and so much a second for ever.
BURST_BYTES = 256 << 10
BYTES_PER_S = 16 << 10
_CHUNK_BYTES = 64 << 10
# A library that prints while it holds the interpreter's lock has to find room for what it prints: nobody reads meanwhile.
_PIPE_BYTES = 1 << 20
_LAST_WORDS_S = 1.0


class Chatter:
    """Turns chunks of output into lines for the log. Pure but for the time it is given."""

    def __init__(self, label: str, now_s: float) -> None:
        self._label = label
        self._rest = b""
        self._room = float(BURST_BYTES)
        self._looked_s = now_s
        self._left_out = 0

    def take(self, chunk: bytes, now_s: float) -> bytes:
        """The lines that `chunk` completes, as the log has them."""
        self._room = min(BURST_BYTES, self._room + (now_s - self._looked_s) * BYTES_PER_S)
        self._looked_s = now_s
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > 4 * MAX_LINE_CHARS:
            lines.append(self._rest)
            self._rest = b""
        return b"".join(map(self._logged, lines))

    def end(self) -> bytes:
        """What is left when nothing more comes."""
        rest, self._rest = self._rest, b""
        return (self._logged(rest) if rest else b"") + self._confessed()

    def _logged(self, raw: bytes) -> bytes:
        if self._room <= 0:
            self._left_out += 1
            return b""
        confessed = self._confessed()
        text = raw[: 4 * MAX_LINE_CHARS].decode("utf-8", "replace").rstrip("\r")
        cut = text[: MAX_LINE_CHARS - 1] + "…" if len(text) > MAX_LINE_CHARS else text
        line = f"{self._label}: {_printable(cut)}\n".encode()
        self._room -= len(line)
        return confessed + line

    def _confessed(self) -> bytes:
        count, self._left_out = self._left_out, 0
        return f"{self._label}: … {count} lines left out\n".encode() if count else b""


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "  " if char == "\t" else char.encode("unicode_escape").decode() for char in text)


def listen(class_name: str) -> Callable[[], None]:
    """From now on what this process prints goes through a Chatter, until what is returned is called; that waits for the last of it.

    A crash in native code leaves Python's lines in the log as they are.
    """
    log = os.dup(2)
    os.set_inheritable(log, False)
    faulthandler.enable(log)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.stderr.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    # Each with a measure of its own: a flood of prints must not hide why something failed.
    listeners = [_listener(descriptor, log, class_name) for descriptor in (1, 2)]

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        # Not for ever: a process that the user's code has started may go on holding the other end.
        for listener in listeners:
            listener.join(_LAST_WORDS_S)

    return end


def _listener(descriptor: int, log: int, class_name: str) -> threading.Thread:
    """A thread that hears what is written to the descriptor from now on."""
    heard, said = os.pipe()
    fcntl.fcntl(said, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    os.dup2(said, descriptor)
    os.close(said)
    listener = threading.Thread(target=_pass_on, args=(heard, log, class_name), daemon=True, name="towline-chatter")
    listener.start()
    return listener


def _pass_on(heard: int, log: int, class_name: str) -> None:
    chatter = Chatter(f"{_printable(class_name)}[{os.getpid()}]", time.monotonic())
    while chunk := os.read(heard, _CHUNK_BYTES):
        raw = chatter.take(chunk, time.monotonic())
        while raw:
            try:
                raw = raw[os.write(log, raw) :]
            except OSError:
                # Whoever read the log has gone; requests are still answered.
                break
    os.write(log, chatter.end())
