"""What arrives at the controller, read by a thread of its own: whoever asks is told at once that it is alive, however busy it is."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from typing import Any

from towline.core import channel
from towline.core.errors import TowlineError

# Beyond it the oldest is dropped: whoever asked asks again, and what is reported is reported again.
_MAX_MESSAGES = 10_000

Letter = tuple[dict[str, Any], list[int]]


class Inbox:
    """Messages in their order, but for `state`, of which only the newest matters. `receive` belongs to one thread, `send` to all."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._letters: deque[Letter] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    @property
    def is_closed(self) -> bool:
        """The supervisor is gone, and all it said before was received."""
        with self._changed:
            return self._is_closed and not self._letters

    def receive(self, timeout_s: float) -> Letter | None:
        """The next message and its descriptors (the caller closes them); None when there is none in time, or will be none."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while not self._letters:
                left_s = until_s - time.monotonic()
                if self._is_closed or left_s <= 0:
                    return None
                self._changed.wait(left_s)
            return self._letters.popleft()

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        """Raises OSError when the supervisor is gone. One message is one datagram, so that threads do not mix theirs."""
        channel.send(self._end, message, descriptors)

    def _read(self) -> None:
        while True:
            try:
                letter = channel.receive(self._end)
            except TowlineError:
                continue
            except OSError:
                letter = None
            if letter is None:
                with self._changed:
                    self._is_closed = True
                    self._changed.notify_all()
                return
            self._take(letter)

    def _take(self, letter: Letter) -> None:
        message, _ = letter
        if message.get("do") == "control":
            try:
                self.send({"to": "front", "do": "control-heard", "id": message["id"]})
            except OSError:
                # Seen again by `receive`, as the end.
                pass
        dropped: list[Letter] = []
        with self._changed:
            if message.get("do") == "state":
                dropped = [one for one in self._letters if one[0].get("do") == "state"]
                self._letters = deque(one for one in self._letters if one[0].get("do") != "state")
            elif len(self._letters) >= _MAX_MESSAGES:
                dropped = [self._letters.popleft()]
            self._letters.append(letter)
            self._changed.notify_all()
        for _, descriptors in dropped:
            for descriptor in descriptors:
                os.close(descriptor)
