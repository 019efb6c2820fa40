"""The small process that outlives the others: holds the listening socket, starts and restarts the rest, learns how workers die.

It opens no store and imports no library. When it dies, everything stops. Messages between front and controller pass through it:
    {"to": "front" | "controller" | "supervisor", "do": …} + descriptors
The last routing table is kept, so that a new front serves at once what the old one served.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from towline.core import channel
from towline.core.errors import TowlineError
from towline.core.interpreter import placed, worker_command
from towline.core.process import adopt_orphans, is_child_of_ours

_TURN_S = 0.25
_QUICK_DEATH_S = 2.0
_MAX_QUICK_DEATHS = 5
_BACK_OFF_S = (0.05, 0.1, 0.5, 1.0, 2.0)
_LAST_WORDS_S = 2.0
_ROLES = ("fork-server", "controller", "front")
# What each is called in `top`; the fork server is never forked.
_NAMES = {"controller": "towline-control", "front": "towline-front", "fork-server": ""}
_FORKED_ENGINE = "onnxruntime"


@dataclass(frozen=True)
class Commands:
    """A module and its arguments for each process; `python` are the words before them.

    `{launch}` becomes how often it was started, `{channel}` and `{listener}` the numbers of descriptors.
    """

    python: Sequence[str]
    front: Sequence[str]
    controller: Sequence[str]
    fork_server: Sequence[str]
    worker: Sequence[str]


@dataclass
class _Member:
    """One of the three processes: its channel, and how often it died young."""

    role: str
    pid: int = 0
    # The fork server was asked for it and has not said its pid yet.
    is_unborn: bool = False
    end: socket.socket | None = None
    started_s: float = 0.0
    launches: int = 0
    quick_deaths: int = 0
    restart_at_s: float | None = None


@dataclass
class _State:
    table: dict[str, Any] | None = None
    table_is_sent: bool = True
    was_ready: bool = False
    stopping_since_s: float | None = None
    signal_number: int = 0
    exit_code: int | None = None
    oom_kills: int = 0
    # What we started ourselves, rather than had forked, by pid.
    started: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)


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
        self._commands = commands
        self._listener = listener
        self._drain_timeout_s = drain_timeout_s
        self._say = say
        self._begun = begun
        self._members = {role: _Member(role) for role in _ROLES}
        self._selector = selectors.DefaultSelector()
        self._state = _State(oom_kills=_oom_kills())

    def run(self) -> int:
        adopt_orphans()
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)
        self._selector.register(wake, selectors.EVENT_READ, None)
        # The fork server goes first, and makes the one that the others wait for first: that decides when the first answer is given.
        for role in _ROLES:
            if role == "fork-server" and self._begun is not None:
                self._adopt(self._members[role], *self._begun)
            else:
                self._launch(self._members[role])
        try:
            while self._state.exit_code is None:
                for key, _ in self._selector.select(_TURN_S):
                    if key.data is None:
                        self._on_signals(wake.recv(4096))
                    else:
                        self._on_readable(key.data)
                self._reap()
                self._keep_time()
        finally:
            self._end_all()
        return self._state.exit_code or 0

    # Processes

    def _launch(self, member: _Member) -> None:
        ours, theirs = channel.channel()
        member.launches += 1
        descriptors = {"{channel}": theirs.fileno()}
        if member.role == "front":
            descriptors["{listener}"] = self._listener.fileno()
        words = [str(member.launches) if word == "{launch}" else word for word in getattr(self._commands, member.role.replace("-", "_"))]
        try:
            # The first time all start at once, and the fork server has imported much of what the others would. Later they need not
            # wait for it.
            member.is_unborn = member.launches == 1 and self._fork(
                words, descriptors, name=_NAMES[member.role], tell={"to": "supervisor", "do": "born", "role": member.role}
            )
            member.pid = 0 if member.is_unborn else self._start([*self._commands.python, *placed(words, descriptors)], descriptors.values())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._listen_to(member, ours)
        if member.role == "front" and self._state.table is not None:
            self._state.table_is_sent = False

    def _adopt(self, member: _Member, pid: int, end: socket.socket) -> None:
        member.pid, member.launches = pid, 1
        self._listen_to(member, end)

    def _listen_to(self, member: _Member, end: socket.socket) -> None:
        end.setblocking(False)
        member.end, member.started_s, member.restart_at_s = end, time.monotonic(), None
        self._selector.register(end, selectors.EVENT_READ, member)

    def _fork(
        self, words: Sequence[str], places: Mapping[str, int], *, name: str, engine: str = "", tell: Mapping[str, Any] | None = None
    ) -> bool:
        """Wish for a process (engines/forks.py says what the words are); False when there is no fork server to make it."""
        message = {"name": name, "words": list(words), "places": list(places), "engine": engine, "tell": tell}
        return self._send("fork-server", message, list(places.values()))

    def _start(self, command: Sequence[str], descriptors: Iterable[int]) -> int:
        """A new Python. Raises OSError."""
        process = subprocess.Popen(command, pass_fds=tuple(descriptors), stdin=subprocess.DEVNULL)
        self._state.started[process.pid] = process
        return process.pid

    def _relaunch(self, member: _Member) -> None:
        """Try, and try again: while the system has no room for a process, those that are left go on answering."""
        try:
            self._launch(member)
        except OSError as error:
            member.restart_at_s = time.monotonic() + _BACK_OFF_S[-1]
            self._say({"do": "note", "text": f"The {member.role} could not be started ({error.strerror}); trying again."})

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            code = os.waitstatus_to_exitcode(status)
            self._forget(pid, code)
            self._hear_of_births()
            member = next((one for one in self._members.values() if one.pid == pid), None)
            if member is not None:
                self._on_member_death(member, code)
            else:
                self._on_worker_death(pid, code)

    def _forget(self, pid: int, code: int) -> None:
        process = self._state.started.pop(pid, None)
        if process is not None:
            process.returncode = code

    def _hear_of_births(self) -> None:
        """Who died may have been born a moment ago: the fork server said so before."""
        forks = self._members["fork-server"]
        while forks.end is not None and self._has_words(forks.end):
            self._on_readable(forks)

    def _on_worker_death(self, pid: int, code: int) -> None:
        kills = _oom_kills()
        out_of_memory = code == -signal.SIGKILL and kills > self._state.oom_kills
        self._state.oom_kills = kills
        message = {"do": "exited", "pid": pid, "signal": max(-code, 0), "status": max(code, 0), "out_of_memory": out_of_memory}
        for role in ("front", "controller"):
            self._send(role, message)

    def _on_member_death(self, member: _Member, code: int) -> None:
        # Its last words first: they may tell why.
        while member.end is not None and self._state.exit_code is None and self._has_words(member.end):
            self._on_readable(member)
        if self._state.exit_code is not None:
            return
        self._hang_up(member)
        member.pid = 0
        if member.role == "fork-server":
            self._start_the_unborn()
        if self._state.stopping_since_s is not None:
            if member.role == "front":
                self._state.exit_code = 130 if self._state.signal_number == signal.SIGINT else 0 if code == 0 else 1
            return
        lived_s = time.monotonic() - member.started_s
        # Killed from outside is not its own fault, nor a reason to wait.
        is_own_fault = lived_s < _QUICK_DEATH_S and code != -signal.SIGKILL
        member.quick_deaths = member.quick_deaths + 1 if is_own_fault else 0
        self._say({"do": "restarting", "role": member.role, "code": code})
        if gives_up(member.role, quick_deaths=member.quick_deaths, was_ready=self._state.was_ready):
            self._state.exit_code = 1
            return
        member.restart_at_s = time.monotonic() + back_off_s(member.quick_deaths)

    def _start_the_unborn(self) -> None:
        """Nobody forks them any more."""
        for member in self._members.values():
            if member.is_unborn:
                self._hang_up(member)
                member.is_unborn, member.restart_at_s = False, time.monotonic()

    @staticmethod
    def _has_words(end: socket.socket) -> bool:
        return bool(select.select([end], [], [], 0)[0])

    def _hang_up(self, member: _Member) -> None:
        if member.end is not None:
            self._selector.unregister(member.end)
            member.end.close()
            member.end = None

    # Messages

    def _on_readable(self, member: _Member) -> None:
        assert member.end is not None
        try:
            received = channel.receive(member.end)
        except (BlockingIOError, TowlineError):
            return
        if received is None:
            # Its death is seen by `_reap`; until then nothing more is to be read here.
            self._hang_up(member)
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
                if not self._fork(message["words"], places, name=message["name"], tell=birth):
                    self._send("controller", birth | {"pid": 0})
            case "kill":
                pid = int(message["pid"])
                if is_child_of_ours(pid) and all(one.pid != pid for one in self._members.values()):
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
        if engine == _FORKED_ENGINE:
            places = dict(zip(("{link}", "{control}"), descriptors, strict=True))
            self._fork([*self._commands.worker, engine, *places], places, name="towline-worker", engine=engine)
            return
        own = [*self._commands.python, *self._commands.worker]
        try:
            self._start([*worker_command(own, engine), *map(str, descriptors)], descriptors)
        except OSError as error:
            # Whoever asked sees its ends close, and asks again.
            self._say({"do": "note", "text": f"A worker could not be started: {error.strerror}."})

    def _relay(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message.get("do") == "table":
            self._state.table, self._state.table_is_sent = message, False
        else:
            self._send(str(message.get("to")), message, descriptors)

    def _send(self, role: str, message: dict[str, Any], descriptors: Sequence[int] = ()) -> bool:
        """False when the receiver is away or does not read. What must arrive is sent again (the table) or asked again (a worker)."""
        member = self._members.get(role)
        if member is None or member.end is None:
            return False
        try:
            channel.send(member.end, message, descriptors)
        except OSError:
            return False
        return True

    # Time and signals

    def _keep_time(self) -> None:
        now = time.monotonic()
        state = self._state
        if not state.table_is_sent and state.table is not None:
            state.table_is_sent = self._send("front", state.table)
        for member in self._members.values():
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
            self._state.exit_code = 130 if number == signal.SIGINT else 1
            return
        self._state.stopping_since_s = time.monotonic()
        self._state.signal_number = number
        self._say({"do": "draining"})
        # From here on only the front holds the socket: when it closes it, the port is free.
        self._listener.close()
        if not self._send("front", {"do": "drain"}):
            self._state.exit_code = 130 if number == signal.SIGINT else 0

    def _end_all(self) -> None:
        """Close every channel: who is well ends by itself. Who is not is killed."""
        for member in self._members.values():
            self._hang_up(member)
        until = time.monotonic() + _LAST_WORDS_S
        while time.monotonic() < until and self._has_children():
            time.sleep(0.01)
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        while self._has_children():
            time.sleep(0.01)

    def _has_children(self) -> bool:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return True
                self._forget(pid, os.waitstatus_to_exitcode(status))
        except ChildProcessError:
            return False


def gives_up(role: str, *, quick_deaths: int, was_ready: bool) -> bool:
    """Is a process that keeps dying young a reason to end? Not once requests are answered: whoever still lives goes on."""
    return not was_ready and role != "controller" and quick_deaths > _MAX_QUICK_DEATHS


def back_off_s(quick_deaths: int) -> float:
    """Seconds before a process is started again, after so many quick deaths in a row."""
    return _BACK_OFF_S[min(quick_deaths, len(_BACK_OFF_S) - 1)]


def _children() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and is_child_of_ours(int(name))]


def _oom_kills() -> int:
    """How many processes the kernel has killed for memory since it started."""
    try:
        with open("/proc/vmstat") as file:
            return int(next((line.split()[1] for line in file if line.startswith("oom_kill ")), 0))
    except OSError:
        return 0
