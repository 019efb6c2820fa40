"""The small process that outlives the others: holds the listening socket, starts and restarts the rest, learns how workers die.

It opens no store and imports no library. When it dies, everything stops. Messages between front and controller pass through it:
    {"to": "front" | "controller" | "supervisor", "do": …} + descriptors
The last routing table is kept, so that a new front serves at once what the old one served.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from towline.core import channel
from towline.core.errors import TowlineError
from towline.core.process import adopt_orphans, is_child_of_ours
from towline.serve.supervisor.births import Births, Commands
from towline.serve.supervisor.children import MemoryKills, end_all, reap
from towline.serve.supervisor.members import Member, Members
from towline.serve.supervisor.restarts import NO_ROOM_PAUSE_S, back_off_s, exit_code, gives_up, quick_deaths_now
from towline.serve.supervisor.signals import readable_signals

_TURN_S = 0.25
_LAST_WORDS_S = 2.0


@dataclass
class _State:
    table: dict[str, Any] | None = None
    table_is_sent: bool = True
    was_ready: bool = False
    stopping_since_s: float | None = None
    signal_number: int = 0
    exit_code: int | None = None


class Supervisor:
    """`say` is called with a message for the person at the terminal (ready, failed); `run` returns the exit code.

    `begun` are the pid and our end of a fork server that was started before.
    """

    def __init__(
        self,
        commands: Commands,
        listener: socket.socket,
        *,
        drain_timeout_s: float,
        say: Callable[[dict[str, Any]], None],
        begun: tuple[int, socket.socket] | None = None,
    ) -> None:
        self._listener = listener
        self._drain_timeout_s = drain_timeout_s
        self._say = say
        self._selector = selectors.DefaultSelector()
        self._members = Members(self._selector)
        self._births = Births(commands, lambda message, descriptors: self._members.send("fork-server", message, descriptors))
        self._memory_kills = MemoryKills()
        self._state = _State()
        if begun is not None:
            self._members.welcome(self._members["fork-server"], *begun)

    def run(self) -> int:
        adopt_orphans()
        signals = readable_signals(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        self._selector.register(signals, selectors.EVENT_READ, None)
        # The fork server goes first, and makes the one that the others wait for first: that decides when the first answer is given.
        for member in self._members:
            if member.end is None:
                self._launch(member)
        try:
            while self._state.exit_code is None:
                for key, _ in self._selector.select(_TURN_S):
                    if key.data is None:
                        self._on_signals(signals.recv(4096))
                    else:
                        self._on_readable(key.data)
                reap(self._on_death)
                self._keep_time()
        finally:
            self._end_all()
        return self._state.exit_code or 0

    # Processes

    def _launch(self, member: Member) -> None:
        ours, theirs = channel.channel()
        places = {"{channel}": theirs.fileno()}
        if member.role == "front":
            places["{listener}"] = self._listener.fileno()
        try:
            pid = self._births.member(member.role, member.launches + 1, places)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._members.welcome(member, pid, ours)
        if member.role == "front" and self._state.table is not None:
            self._state.table_is_sent = False

    def _relaunch(self, member: Member) -> None:
        """Try, and try again: while the system has no room for a process, those that are left go on answering."""
        try:
            self._launch(member)
        except OSError as error:
            member.restart_at_s = time.monotonic() + NO_ROOM_PAUSE_S
            self._say({"do": "note", "text": f"The {member.role} could not be started ({error.strerror}); trying again."})

    def _on_death(self, pid: int, code: int) -> None:
        self._births.forget(pid, code)
        # Who died may have been born a moment ago: the fork server said so before.
        self._hear_out(self._members["fork-server"])
        member = self._members.of_pid(pid)
        if member is not None:
            self._on_member_death(member, code)
        else:
            self._on_worker_death(pid, code)

    def _on_worker_death(self, pid: int, code: int) -> None:
        # Asked at each death, so that none is blamed on an earlier one.
        out_of_memory = self._memory_kills.are_more() and code == -signal.SIGKILL
        message = {"do": "exited", "pid": pid, "signal": max(-code, 0), "status": max(code, 0), "out_of_memory": out_of_memory}
        for role in ("front", "controller"):
            self._members.send(role, message)

    def _on_member_death(self, member: Member, code: int) -> None:
        # Its last words first: they may tell why.
        self._hear_out(member)
        state = self._state
        if state.exit_code is not None:
            return
        self._members.hang_up(member)
        member.pid = 0
        if member.role == "fork-server":
            self._members.let_the_unborn_start()
        if state.stopping_since_s is not None:
            if member.role == "front":
                state.exit_code = exit_code(state.signal_number, otherwise=0 if code == 0 else 1)
            return
        member.quick_deaths = quick_deaths_now(member.quick_deaths, lived_s=time.monotonic() - member.started_s, code=code)
        self._say({"do": "restarting", "role": member.role, "code": code})
        if gives_up(member.role, quick_deaths=member.quick_deaths, was_ready=state.was_ready):
            state.exit_code = 1
            return
        member.restart_at_s = time.monotonic() + back_off_s(member.quick_deaths)

    # Messages

    def _hear_out(self, member: Member) -> None:
        while self._state.exit_code is None and member.has_words():
            self._on_readable(member)

    def _on_readable(self, member: Member) -> None:
        assert member.end is not None
        try:
            received = channel.receive(member.end)
        except (BlockingIOError, TowlineError):
            return
        if received is None:
            # Its death is seen when it is reaped; until then nothing more is to be read here.
            self._members.hang_up(member)
            return
        message, descriptors = received
        try:
            if message.get("to") == "supervisor":
                self._carry_out(message, descriptors)
            else:
                self._relay(message, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _carry_out(self, message: dict[str, Any], descriptors: list[int]) -> None:
        match message["do"]:
            case "spawn":
                self._spawn(str(message["engine"]), descriptors)
            case "fork":
                places = dict(zip(message["places"], descriptors, strict=True))
                birth = {"to": "controller", "do": "born", "wish": message["wish"]}
                if not self._births.fork(message["words"], places, name=message["name"], tell=birth):
                    self._members.send("controller", birth | {"pid": 0})
            case "kill":
                pid = int(message["pid"])
                if is_child_of_ours(pid) and self._members.of_pid(pid) is None:
                    os.kill(pid, signal.SIGKILL)
            case "born":
                member = self._members[message["role"]]
                member.pid, member.is_unborn = int(message["pid"]), False
            case "fatal":
                self._say(message)
                # Once requests are answered, they go on being answered: the controller is started again.
                if not self._state.was_ready:
                    self._state.exit_code = int(message["exit_code"])
            case _:
                self._state.was_ready = self._state.was_ready or message["do"] == "ready"
                self._say(message)

    def _spawn(self, engine: str, descriptors: list[int]) -> None:
        try:
            self._births.worker(engine, descriptors)
        except OSError as error:
            self._say({"do": "note", "text": f"A worker could not be started: {error.strerror}."})

    def _relay(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message.get("do") == "table":
            self._state.table, self._state.table_is_sent = message, False
        else:
            self._members.send(str(message.get("to")), message, descriptors)

    # Time and signals

    def _keep_time(self) -> None:
        now = time.monotonic()
        state = self._state
        if not state.table_is_sent and state.table is not None:
            state.table_is_sent = self._members.send("front", state.table)
        for member in self._members:
            if member.restart_at_s is not None and now >= member.restart_at_s and state.stopping_since_s is None:
                self._relaunch(member)
        if state.stopping_since_s is not None and now - state.stopping_since_s > self._drain_timeout_s + _LAST_WORDS_S:
            state.exit_code = 1

    def _on_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(number)

    def _stop(self, number: int) -> None:
        if self._state.stopping_since_s is not None:
            # Asked twice: now.
            self._state.exit_code = exit_code(number, otherwise=1)
            return
        self._state.stopping_since_s = time.monotonic()
        self._state.signal_number = number
        self._say({"do": "draining"})
        # From here on only the front holds the socket: when it closes it, the port is free.
        self._listener.close()
        if not self._members.send("front", {"do": "drain"}):
            self._state.exit_code = exit_code(number, otherwise=0)

    def _end_all(self) -> None:
        """Close every channel: who is well ends by itself. Who is not is killed."""
        for member in self._members:
            self._members.hang_up(member)
        end_all(self._births.forget, patience_s=_LAST_WORDS_S)
