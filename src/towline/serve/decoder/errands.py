"""What the decoder asks of the front and hands to it, carried out: its arrays to the data plane, its bytes to the client."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from towline.core.errors import NotFound, TowlineError, Unavailable
from towline.core.inference import Response
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Reply, Served
from towline.serve.decoder import messages
from towline.serve.decoder.visit import Visit, copied
from towline.serve.decoder.visits import Visits, no_room
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.table import Found

Handle = Callable[[Found, Exchange, Reply], "Callable[[], None] | None"]
# What an answer may come to, by what a request may.
_MAX_EXPANSION = 64
# So often a request is read again because its version was replaced while it was read.
_MAX_READS = 3


class Errands:
    """`handle` answers in the front itself what the decoder declines, `read_once_more` puts a visit at the end of the queue.

    A visit is None when it was over before the decoder had done. What cannot be meant raises ValueError, or what NOT_OURS names.
    """

    def __init__(
        self, plane: DataPlane, limits: Limits, handle: Handle, visits: Visits, *, read_once_more: Callable[[Visit], None]
    ) -> None:
        self._plane, self._limits, self._handle, self._visits = plane, limits, handle, visits
        self._read_once_more = read_once_more

    def tell(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What it asks of the models that are served."""
        try:
            if asked["what"] == "find":
                found = self._plane.find(asked["name"], number=asked["number"], label=asked["label"])
                return {"served": messages.served_message(found)}
            if asked["what"] == "only":
                return {"served": messages.served_message(self._plane.only())}
            return {"names": self._plane.names()}
        except TowlineError as error:
            return {"error": messages.error_message(error)}

    async def infer(self, visit: Visit | None, message: dict[str, Any], descriptors: list[int]) -> None:
        """It is read. Its arrays are believed no more than a worker's."""
        raw = await copied(descriptors, min(int(message["size"]), self._most_bytes))
        if visit is None or visit.is_over:
            return
        try:
            # No await between finding a version and handing it the request.
            served = self._same(message)
            if served is None:
                self._read_again(visit)
                return
            request = messages.asked_from(message, raw.data, served, self._limits)
        except TowlineError as error:
            self._visits.refuse(visit, error)
            return
        if visit.timer is not None:
            # From here on the data plane keeps the time.
            visit.timer.cancel()
        visit.cancel_run = self._plane.infer(served, request, partial(self._ran, visit), protocol=str(message["protocol"]))

    @property
    def _most_bytes(self) -> int:
        return 4 * self._limits.max_request_bytes + (1 << 20)

    def _same(self, message: dict[str, Any]) -> Served | None:
        """The version that a request was read for; None when it has been replaced since."""
        try:
            served = self._plane.find(message["name"], number=int(message["number"]))
        except (NotFound, Unavailable):
            return None
        return served if served.digest == message["digest"] else None

    def _read_again(self, visit: Visit) -> None:
        if visit.reads >= _MAX_READS:
            self._visits.refuse(visit, Unavailable("Its model was replaced again and again while the body was read.", retry_after_s=1.0))
        else:
            visit.decoder = None
            self._read_once_more(visit)

    def _ran(self, visit: Visit, result: Response | TowlineError) -> None:
        """Have the decoder write the answer. The arrays are only lent until this returns."""
        if visit.is_over or visit.decoder is None:
            return
        if isinstance(result, TowlineError):
            visit.decoder.say({"do": "ran", "id": visit.id, "error": messages.error_message(result)})
            return
        try:
            file, size = messages.tensors_file(result.outputs)
        except OSError as error:
            self._visits.refuse(visit, no_room(error))
            return
        visit.decoder.say({"do": "ran", "id": visit.id, "size": size, "name": result.name, "number": result.number}, (file,))
        os.close(file)

    async def reply(self, visit: Visit | None, message: dict[str, Any], descriptors: list[int]) -> None:
        size = int(message["size"])
        if size > _MAX_EXPANSION * self._limits.max_request_bytes:
            raise ValueError(f"an answer of {size} bytes")
        body = await copied(descriptors, size)
        response = messages.response_from(message, body.tobytes())
        if visit is not None and self._visits.leave(visit):
            visit.answer(response)

    async def decline(self, visit: Visit | None) -> None:
        if visit is None or visit.is_over:
            return
        self._visits.leave(visit)
        # Of its own: its client may go meanwhile, and the file with it.
        file = os.dup(visit.file)
        try:
            body = await copied([file], visit.size)
        finally:
            os.close(file)
        if (found := visit.exchange.found) is not None and visit.file >= 0:
            visit.exchange.body = body.tobytes()
            visit.end()
            visit.cancel_run = self._handle(found, visit.exchange, visit.reply)
