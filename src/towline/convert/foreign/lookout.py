"""Notice what a source tries while its framework reads it, name it, and end the process. A second voice: the walls hold without it.

Code in a model file runs in the converter process. The walls around that process make its attempts fail, which the code may swallow, and
then the import would go on as if nothing had been. Python tells its audit hooks of most attempts made from Python; those of native code
only fail at the walls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from towline.convert import wording
from towline.core.errors import ImportRefused

SOURCE_ESCAPES = "SOURCE_ESCAPES"
HINT = "Its code was stopped before it could. Ask whoever made the file, or take it from elsewhere."

# What numeric libraries read and run to find out about the machine.
_READ = (
    *("/usr", "/lib", "/lib64", "/bin", "/sbin", "/sys", "/dev", "/nix"),
    *("/etc/ld.so", "/etc/localtime", "/etc/os-release", "/etc/lsb-release", "/etc/debian_version", "/etc/nsswitch.conf"),
    *("/etc/mime.types", "/etc/apache2/mime.types", "/etc/httpd", "/etc/ssl"),
)
_RUN = {"uname", "lscpu", "ldconfig", "nproc", "getconf", "sysctl"}
_DEVICES = {"/dev/null", "/dev/zero", "/dev/full"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

# Which of an event's arguments are paths that it changes.
_CHANGES = {
    "os.remove": ("remove", (0,)),
    "os.rmdir": ("remove", (0,)),
    "os.mkdir": ("make", (0,)),
    "os.rename": ("rename", (0, 1)),
    "os.link": ("link", (0, 1)),
    "os.symlink": ("make a link at", (1,)),
    "os.truncate": ("write", (0,)),
    "os.chmod": ("change the mode of", (0,)),
    "os.chown": ("change the owner of", (0,)),
    "os.utime": ("change the times of", (0,)),
    "os.setxattr": ("mark", (0,)),
    "os.removexattr": ("mark", (0,)),
}
_READS = {"os.listdir": "list", "os.scandir": "list", "os.chdir": "enter"}
_CONNECTS = {"socket.connect": "connect to", "socket.bind": "listen at", "socket.sendto": "send to", "socket.sendmsg": "send to"}
_ASKS = {"socket.gethostbyname", "socket.gethostbyaddr", "socket.getnameinfo"}
_RUNS = {"os.exec": 0, "os.posix_spawn": 0, "os.spawn": 1}
_SIGNALS = {"os.kill", "os.killpg", "signal.pidfd_send_signal"}


@dataclass(frozen=True)
class Allowed:
    """Absolute paths without links: `reads` may be read, `scratch` written, both with all that is beneath them."""

    reads: tuple[str, ...]
    scratch: str
    pid: int

    def attempt(self, event: str, arguments: Sequence[Any]) -> str:
        """What was tried that is not allowed, to follow "tried to"; empty for what is harmless."""
        if event == "open":
            return self._open(arguments)
        if event in _CHANGES:
            verb, places = _CHANGES[event]
            return next((found for place in places if (found := self._change(verb, arguments[place]))), "")
        if event in _READS:
            return self._read(_READS[event], arguments[0])
        if event in _CONNECTS:
            return "" if _is_nowhere(event, arguments[1]) else f"{_CONNECTS[event]} {_address(arguments[1])}"
        if event == "socket.getaddrinfo":
            return f"connect to {_address(arguments)}" if arguments[1] is not None else f"look up {_address(arguments[0])}"
        if event in _ASKS:
            return f"look up {_address(arguments[0])}"
        return self._processes(event, arguments)

    def _processes(self, event: str, arguments: Sequence[Any]) -> str:
        if event == "os.system":
            return f"run {_shown(arguments[0])}"
        if event == "subprocess.Popen":
            return _run(arguments[0], arguments[1])
        if event in _RUNS:
            place = _RUNS[event]
            return _run(arguments[place], arguments[place + 1])
        if event in _SIGNALS:
            return "" if arguments[0] == self.pid else f"send a signal to process {arguments[0]}"
        if event == "ctypes.dlopen":
            return self._read("load the library", arguments[0]) if "/" in _text(arguments[0]) else ""
        return "start a shell" if event == "pty.spawn" else ""

    def _open(self, arguments: Sequence[Any]) -> str:
        path, mode, flags = (*arguments, None, 0)[:3]
        writing = (flags or 0) & _WRITING or any(letter in "wax+" for letter in mode or "")
        return self._change("write", path) if writing else self._read("read", path)

    def _change(self, verb: str, path: object) -> str:
        place = _place(path)
        return "" if not place or place in _DEVICES or _beneath(place, self.scratch) else f"{verb} {_shown(path)}"

    def _read(self, verb: str, path: object) -> str:
        place = _place(path)
        if not place or any(_beneath(place, known) for known in (self.scratch, *self.reads)):
            return ""
        if place.startswith("/proc/"):
            whose = place.split("/")[2]
            return f"{verb} {_shown(path)}" if whose.isdigit() and int(whose) != self.pid else ""
        return "" if place.startswith(_READ) else f"{verb} {_shown(path)}"


def arm(allowed: Allowed, report: Callable[[ImportRefused], None]) -> None:
    """Have every attempt told to `report`, once, and end the process. There is no way back."""
    told = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal told
        if told:
            return
        tried = allowed.attempt(event, arguments)
        if tried:
            # What follows opens and sends, too.
            told = True
            report(refusal(tried))
            os._exit(3)

    sys.addaudithook(hook)


def refusal(tried: str) -> ImportRefused:
    return ImportRefused(f"The source tried to {tried} while it was read; it is not taken.", code=SOURCE_ESCAPES, hint=HINT)


def python_folders() -> tuple[str, ...]:
    """Where this Python finds what it imports, this package among it."""
    ours = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    return tuple(place for place in (ours, sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path) if place)


def _place(path: object) -> str:
    """An absolute path without links; nothing for a descriptor, which was opened before."""
    if path is None or isinstance(path, int):
        return ""
    return os.path.realpath(_text(path))


def _text(path: object) -> str:
    try:
        return os.fsdecode(path)  # type: ignore[arg-type]
    except TypeError:
        return ""


def _beneath(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder.rstrip("/") + "/")


def _run(program: object, words: object) -> str:
    name = os.path.basename(_text(program) or _first(words))
    return "" if name in _RUN else f"run {_shown(' '.join(map(_text, words)) if isinstance(words, list | tuple) else program)}"


def _first(words: object) -> str:
    return _text(words[0]) if isinstance(words, list | tuple) and words else _text(words)


def _is_nowhere(event: str, address: object) -> bool:
    """A message to whoever is connected already; a port that is given at random, by which libraries find out about IPv6."""
    return address is None or (event == "socket.bind" and isinstance(address, tuple) and len(address) > 1 and address[1] == 0)


def _address(address: object) -> str:
    if isinstance(address, tuple) and len(address) >= 2:
        return _shown(f"{address[0]}:{address[1]}")
    return _shown(address)


def _shown(what: object) -> str:
    return wording.name(_text(what) or str(what))
