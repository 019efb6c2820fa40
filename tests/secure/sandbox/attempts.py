"""What a hostile model file would try. Run as a program: `attempts TARGETS`, a JSON object; says for each attempt what came of it."""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
NEW_USER = 0x10000000


def succeeded(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def connect_tcp(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass


def send_udp(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        end.sendto(b"secret", ("127.0.0.1", port))


def connect_unix(name: str) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.connect(name)


def trace(pid: int) -> None:
    succeeded(LIBC.ptrace(PTRACE_ATTACH, pid, None, None))
    os.waitpid(pid, 0)
    LIBC.ptrace(PTRACE_DETACH, pid, None, None)


def copy_memory(pid: int) -> None:
    with open(f"/proc/{pid}/mem", "rb"):
        pass


def attempts(targets: dict[str, str]) -> dict[str, Callable[[], object]]:
    secret, folder, pid, scratch = Path(targets["secret"]), Path(targets["folder"]), int(targets["pid"]), Path.cwd()
    return {
        "read a secret file": lambda: secret.read_text(),
        "list a folder": lambda: os.listdir(folder),
        "read a secret through the root of another process": lambda: Path(f"/proc/{pid}/root{secret}").read_text(),
        "write to a file": lambda: open(secret, "a").close(),
        "make a file": lambda: (folder / "dropped").write_text("evil"),
        "remove a file": lambda: (folder / "bait").unlink(),
        "rename a file": lambda: (folder / "other").rename(folder / "renamed"),
        "change a mode": lambda: os.chmod(folder / "marked", 0o777),
        "change times": lambda: os.utime(folder / "marked", (0, 0)),
        "write to what is read": lambda: open(__file__, "a").close(),
        "connect over TCP": lambda: connect_tcp(int(targets["tcp"])),
        "send over UDP": lambda: send_udp(int(targets["udp"])),
        "connect to a Unix socket": lambda: connect_unix(targets["unix"]),
        "connect to an abstract socket": lambda: connect_unix("\0" + targets["abstract"]),
        "signal another process": lambda: os.kill(pid, 0),
        "trace another process": lambda: trace(pid),
        "read another process's memory": lambda: copy_memory(pid),
        "read another process's environment": lambda: Path(f"/proc/{pid}/environ").read_bytes(),
        "leave a link in scratch": lambda: os.symlink(secret, scratch / "link"),
        "leave a pipe in scratch": lambda: os.mkfifo(scratch / "pipe"),
        "link a file into scratch": lambda: os.link(__file__, scratch / "hard"),
        "read a word of the environment": lambda: os.environ["TOWLINE_SECRET"],
        "take more memory than there is": lambda: bytearray(100 << 30),
        "make a user namespace": lambda: succeeded(LIBC.unshare(NEW_USER)),
        "join other groups": lambda: os.setgroups([0]),
    }


def outcome(attempt: Callable[[], object]) -> str:
    """`done`, or the name of what stopped it."""
    try:
        attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "done"


if __name__ == "__main__":
    found = {name: outcome(attempt) for name, attempt in attempts(json.loads(sys.argv[1])).items()}
    Path("outcome.json").write_text(json.dumps(found))
