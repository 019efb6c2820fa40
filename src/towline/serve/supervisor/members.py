"""The three processes that the supervisor keeps alive, and its ends of the channels to them."""

from __future__ import annotations

import select
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from towline.core import channel

# In the order in which they are started: the fork server makes the others.
ROLES = ("fork-server", "controller", "front")


@dataclass
class Member:
    """One process: its channel, and how often it died young."""

    role: str
    pid: int = 0
    # The fork server was asked for it and has not said its pid yet.
    is_unborn: bool = False
    end: socket.socket | None = None
    started_s: float = 0.0
    launches: int = 0
    quick_deaths: int = 0
    restart_at_s: float | None = None

    def has_words(self) -> bool:
        """Something is there to be read from it, if only its end."""
        return self.end is not None and bool(select.select([self.end], [], [], 0)[0])


class Members:
    """By role. `selector` tells of their messages, with the member as data."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._by_role = {role: Member(role) for role in ROLES}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._by_role.values())

    def __getitem__(self, role: str) -> Member:
        return self._by_role[role]

    def of_pid(self, pid: int) -> Member | None:
        return next((one for one in self if one.pid == pid), None)

    def welcome(self, member: Member, pid: int, end: socket.socket) -> None:
        """It was launched, and is heard from now on. `pid` 0: it is still to be born."""
        end.setblocking(False)
        member.pid, member.is_unborn, member.end = pid, not pid, end
        member.launches += 1
        member.started_s, member.restart_at_s = time.monotonic(), None
        self._selector.register(end, selectors.EVENT_READ, member)

    def hang_up(self, member: Member) -> None:
        if member.end is not None:
            self._selector.unregister(member.end)
            member.end.close()
            member.end = None

    def let_the_unborn_start(self) -> None:
        """By another way, at the next turn: nobody forks them any more."""
        for member in self:
            if member.is_unborn:
                self.hang_up(member)
                member.is_unborn, member.restart_at_s = False, time.monotonic()

    def send(self, role: str, message: dict[str, Any], descriptors: Sequence[int] = ()) -> bool:
        """False when the receiver is away or does not read. What must arrive is sent again (the table) or asked again (a worker)."""
        member = self._by_role.get(role)
        if member is None or member.end is None:
            return False
        try:
            channel.send(member.end, message, descriptors)
        except OSError:
            return False
        return True
