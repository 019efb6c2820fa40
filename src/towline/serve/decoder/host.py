"""The main of the decoder: the protocols' own handlers, around a data plane that is the front's.

python -m towline.serve.decoder.host CHANNEL_FD COMPAT LIMITS_JSON
"""

from __future__ import annotations

import json
import logging
import os
import resource
import socket
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from towline.core import channel
from towline.core.errors import Kind, TowlineError
from towline.core.frames import decode_frame
from towline.core.inference import Request, Response
from towline.core.manifest import Manifest, Signature
from towline.core.process import become, ignore_signals_of_the_terminal, settle_collector
from towline.serve.codecs.check import Limits
from towline.serve.contract import Done, HttpResponse, OnPart, Served, VersionStatus, signature_named
from towline.serve.decoder import messages
from towline.serve.protocols.errors import own_error
from towline.serve.protocols.table import RouteTable
from towline.serve.routes import inference_routes

log = logging.getLogger("towline.serve")
# What a body may make of memory, beside what the process itself needs: numbers cost 32 bytes as objects, and so do their lists.
_OWN_BYTES, _BYTES_PER_BODY_BYTE = 768 << 20, 8
_MAX_KNOWN = 64
# Bystanders first: on few cores it takes what they leave.
_NICENESS = 5


class Declined(Exception):
    """This is answered in parts, which the front does."""


@dataclass
class Known:
    """A Served as the front described it. Kept, so that its codecs are built once."""

    name: str
    number: int
    digest: str
    manifest: Manifest
    labels: tuple[str, ...]
    codecs: dict[Any, Any] = field(default_factory=dict)

    def signature(self, name: str = "") -> Signature:
        return signature_named(self.manifest, name)


class FrontPlane:
    """The DataPlane of serve/contract.py at the other end of the channel."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        # What came while an answer was awaited.
        self._waiting: deque[tuple[dict[str, Any], list[int]]] = deque()
        self._known: dict[tuple[str, int, str], Known] = {}
        self._running: dict[int, Done] = {}
        # Of the request that is being read.
        self.id = 0

    def next(self) -> tuple[dict[str, Any], list[int]] | None:
        return self._waiting.popleft() if self._waiting else channel.receive(self._end)

    def _ask(self, what: str, **arguments: Any) -> dict[str, Any]:
        channel.send(self._end, {"do": "ask", "what": what, **arguments})
        while received := channel.receive(self._end):
            message, _ = received
            if message["do"] == "told":
                if "error" in message:
                    raise messages.error_from(message["error"])
                return message
            self._waiting.append(received)
        sys.exit(0)

    def _served(self, told: dict[str, Any]) -> Served:
        said = told["served"]
        key = (said["name"], said["number"], said["digest"])
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._known[key] = Known(*key, messages.manifest_from(said), tuple(said["labels"]))
        return known

    def find(self, name: str, *, number: int | None = None, label: str = "") -> Served:
        return self._served(self._ask("find", name=name, number=number, label=label))

    def only(self) -> Served:
        return self._served(self._ask("only"))

    def names(self) -> tuple[str, ...]:
        return tuple(self._ask("names")["names"])

    def status(self, name: str) -> list[VersionStatus]:
        raise NotImplementedError

    def is_ready(self) -> bool:
        raise NotImplementedError

    def infer(self, served: Served, request: Request, done: Done, *, protocol: str, on_part: OnPart | None = None) -> Callable[[], None]:
        if on_part is not None:
            raise Declined
        id = self.id
        version = {"name": served.name, "number": served.number, "digest": served.digest, "protocol": protocol}
        file, size = messages.tensors_file(request.inputs)
        self._running[id] = done
        channel.send(self._end, {"do": "infer", "id": id, "size": size, **version, **messages.asked_message(request)}, (file,))
        os.close(file)
        return lambda: None

    def on_ran(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """What a run gave. Its answer is written before this returns."""
        done = self._running.pop(message["id"], None)
        raw = read(descriptors[0], message["size"]) if descriptors else b""
        if done is not None and "error" in message:
            done(messages.error_from(message["error"]))
        elif done is not None:
            done(Response(decode_frame(raw), message["name"], message["number"]))

    def forget(self, id: int) -> None:
        self._running.pop(id, None)


def serve(end: socket.socket, limits: Limits, compat: str) -> None:
    """Until the front closes its end."""
    plane = FrontPlane(end)
    routes = RouteTable(inference_routes(plane, limits, compat=compat))
    channel.send(end, {"do": "hello"})
    while received := plane.next():
        message, descriptors = received
        reply = partial(_reply, end, int(message.get("id", 0)))
        try:
            if message["do"] == "read":
                plane.id = message["id"]
                _read(routes, message, descriptors, reply)
            elif message["do"] == "ran":
                plane.on_ran(message, descriptors)
            elif message["do"] == "forget":
                plane.forget(message["id"])
        except Declined:
            channel.send(end, {"do": "decline", "id": plane.id})
        except MemoryError:
            reply(own_error(TowlineError("Reading the body took more memory than it may.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY)))
        except Exception:
            log.exception("a handler failed on a large body")
            reply(own_error(TowlineError("The server failed to answer; its log says why.")))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _read(routes: RouteTable, message: dict[str, Any], descriptors: list[int], reply: Callable[[HttpResponse], None]) -> None:
    found = routes.find(message["method"].encode("latin-1"), message["target"].encode("latin-1"))
    assert found.handler is not None, "the front knows the same routes"
    request = messages.request_from(message, found.path, found.query, read(descriptors[0], message["size"]))
    try:
        found.handler(request, found.params, reply)
    except TowlineError as error:
        reply(own_error(error, request))


def _reply(end: socket.socket, id: int, response: HttpResponse) -> None:
    file = messages.memory_file(0)
    with os.fdopen(os.dup(file), "wb") as body:
        body.writelines((response.body, *response.tail))
    channel.send(end, {"do": "reply", "id": id, **messages.response_message(response)}, (file,))
    os.close(file)


def read(descriptor: int, size: int) -> bytes:
    """All of a file of memory, whose offset another process may share."""
    parts = []
    at = 0
    while at < size and (part := os.pread(descriptor, size - at, at)):
        parts.append(part)
        at += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def main(argv: list[str]) -> None:
    become("towline-decoder", parent=os.getppid())
    ignore_signals_of_the_terminal()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    os.nice(_NICENESS)
    limits = Limits(**json.loads(argv[2]))
    most = _OWN_BYTES + _BYTES_PER_BODY_BYTE * limits.max_request_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    settle_collector()
    serve(socket.socket(fileno=int(argv[0])), limits, argv[1])


if __name__ == "__main__":
    main(sys.argv[1:])
