"""The decoder as a process: started when it is needed, heard and spoken to over a channel, and never outliving the front."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from typing import Any

from towline.core import channel
from towline.core.errors import TowlineError, Unavailable
from towline.core.interpreter import command

_BIRTH_TIMEOUT_S = 20.0
# What reading a message raises that ours never sends: something else speaks through it.
NOT_OURS = (KeyError, IndexError, TypeError, ValueError)
OnMessage = Callable[[dict[str, Any], list[int]], None]


class Decoder:
    """A living decoder. `on_death` is called once, when it ends without having been asked to."""

    def __init__(self, end: socket.socket, process: Process, on_message: OnMessage, on_death: Callable[[Decoder], None]) -> None:
        self.pid = process.pid
        self.is_dead = False
        self.born = asyncio.Event()
        self._end = end
        self._process = process
        self._on_message, self._on_death = on_message, on_death
        end.setblocking(False)
        asyncio.get_running_loop().add_reader(end.fileno(), self._on_readable)

    def say(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
        if self.is_dead:
            return
        try:
            channel.send(self._end, message, descriptors)
        except OSError:
            # Gone, or so far behind that its socket is full, which nothing we say can make it.
            self.end()

    def _on_readable(self) -> None:
        try:
            received = channel.receive(self._end)
        except BlockingIOError:
            return
        except (OSError, TowlineError):
            received = None
        if received is None:
            self.end()
        elif received[0].get("do") == "hello":
            self.born.set()
        else:
            try:
                self._on_message(*received)
            except NOT_OURS:
                for descriptor in received[1]:
                    os.close(descriptor)
                self.end()

    def end(self) -> None:
        """Kill it. Whoever waits for something of it is told."""
        if self.is_dead:
            return
        self.is_dead = True
        asyncio.get_running_loop().remove_reader(self._end.fileno())
        self._end.close()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self.born.set()
        self._on_death(self)

    async def ended(self) -> None:
        self.end()
        await self._process.wait()


async def start(limits: dict[str, Any], compat: str, on_message: OnMessage, on_death: Callable[[Decoder], None]) -> Decoder:
    """A decoder that listens. Raises Unavailable when there can be none."""
    end, theirs = channel.channel()
    os.set_inheritable(theirs.fileno(), True)
    words = command("towline.serve.decoder.host", str(theirs.fileno()), compat, json.dumps(limits))
    try:
        process = await asyncio.create_subprocess_exec(*words, pass_fds=(theirs.fileno(),), stdin=DEVNULL, stdout=DEVNULL)
    except OSError as error:
        end.close()
        raise _none() from error
    finally:
        theirs.close()
    decoder = Decoder(end, process, on_message, on_death)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(decoder.born.wait(), _BIRTH_TIMEOUT_S)
    if decoder.is_dead or not decoder.born.is_set():
        decoder.end()
        raise _none()
    return decoder


def _none() -> Unavailable:
    return Unavailable("The process that reads large bodies could not be started.", code="NO_DECODER", retry_after_s=5.0)
