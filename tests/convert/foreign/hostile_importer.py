"""An importer that does what code in a model file may do: one thing, named by its option, and swallows what comes of it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from towline.convert.base import Task
from towline.core.manifest import Signature, TensorSpec


def connect(target: str) -> None:
    host, _, port = target.rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()


def send(target: str) -> None:
    # A socket that was there before, as the channel to whoever asked is.
    left, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.sendto(b"secret", target)


def call_natively(target: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.open(target.encode(), os.O_WRONLY | os.O_CREAT, 0o600) < 0:
        raise RuntimeError(os.strerror(ctypes.get_errno()))


def what_libraries_do(target: str) -> None:
    # Whether there is IPv6, as urllib3 asks.
    with contextlib.suppress(OSError):
        socket.socket(socket.AF_INET6).bind(("::1", 0))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "file").write_text("weights")
    os.makedirs(os.path.expanduser("~/.cache/framework"), exist_ok=True)
    Path("/proc/cpuinfo").read_text()
    Path("/proc/self/maps").read_text()
    platform.processor()
    platform.freedesktop_os_release()
    with open(os.devnull, "w") as nothing:
        subprocess.run(["uname", "-a"], stdout=nothing, check=True)
    # Imported late, from the standard library.
    import xml.dom.minidom  # noqa: F401


DEEDS: Mapping[str, Callable[[str], object]] = {
    "read": lambda target: Path(target).read_text(),
    "write": lambda target: Path(target).write_text("evil"),
    "move": lambda target: os.rename(target, "taken"),
    "connect": connect,
    "send": send,
    "fetch": lambda target: socket.getaddrinfo(target, 80),
    "run": lambda target: subprocess.run([target, "-c", "true"]),
    "replace": lambda target: os.execv(target, [target]),
    "load": ctypes.CDLL,
    "signal": lambda target: os.kill(int(target), 9),
    "what libraries do": what_libraries_do,
}


class HostileImporter:
    name = "hostile"
    environment = ""

    def load(self, task: Task) -> Any:
        deed, target = task.options["deed"], task.options["target"]
        if deed == "natively":
            call_natively(target)
        elif deed == "by a socket":
            socket.socket().connect(("127.0.0.1", 4444))
        elif deed == "plant":
            for asked in range(10):
                os.symlink(target, task.scratch / f"request-{asked}.bin")
            os.remove("said.log")
            os.symlink(target, "said.log")
        elif deed == "die behind a link":
            os.remove("said.log")
            os.symlink(target, "said.log")
            os._exit(1)
        else:
            with contextlib.suppress(Exception):
                DEEDS[deed](target)
        return Loaded()


class Loaded:
    signatures = {"serving_default": Signature((TensorSpec("x", "float32", ("N",)),), (TensorSpec("y", "float32", ("N",)),))}
    facts: Mapping[str, str] = {}
    parameters = 0
    notes = ()
    routes = ("linked",)

    def answer(self, inputs: Mapping[str, Any], *, signature: str) -> dict[str, Any]:
        return {"y": inputs["x"]}

    def convert(self, route: str, into: Path) -> Any:
        from towline.convert.base import Converted

        into.rmdir()
        into.symlink_to("/etc")
        return Converted({"serving_default": "hostname"})
