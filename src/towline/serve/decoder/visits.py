"""Who is at the desk: large requests that were taken in and not answered yet."""

from __future__ import annotations

import logging

from towline.core.errors import TowlineError, Unavailable
from towline.serve.decoder.process import Decoder
from towline.serve.decoder.visit import Visit

log = logging.getLogger("towline.serve")


class Visits:
    """By the number that the decoder knows them by."""

    def __init__(self) -> None:
        self._by_id: dict[int, Visit] = {}

    def add(self, visit: Visit) -> None:
        self._by_id[visit.id] = visit

    def get(self, id: int) -> Visit | None:
        return self._by_id.get(id)

    def of(self, decoder: Decoder) -> list[Visit]:
        """Those that it was given to read."""
        return [visit for visit in self._by_id.values() if visit.decoder is decoder]

    def leave(self, visit: Visit) -> bool:
        """False when it had left before."""
        return self._by_id.pop(visit.id, None) is not None

    def forget(self, visit: Visit) -> None:
        """It leaves without what the decoder has made of it."""
        if self.leave(visit) and visit.decoder is not None:
            visit.decoder.say({"do": "forget", "id": visit.id})

    def refuse(self, visit: Visit, error: TowlineError) -> None:
        visit.refuse(error)
        self.forget(visit)


def no_room(error: OSError) -> Unavailable:
    """No descriptor or no memory is left for a file of memory."""
    log.error("a large body cannot be read: %s", error)
    return Unavailable("The server has no room for a body of this size now.", code="NO_DECODER", retry_after_s=5.0)
