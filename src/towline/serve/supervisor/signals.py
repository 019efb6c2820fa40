"""Signals as bytes to read beside the other things to wait for: nothing is done in a handler."""

from __future__ import annotations

import signal
import socket


def readable_signals(*numbers: signal.Signals) -> socket.socket:
    """From which each of these signals is read as one byte, its number. To be called in the main thread, once."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    # The interpreter writes into it for as long as the process lives.
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    for number in numbers:
        signal.signal(number, lambda number, frame: None)
    return ours
