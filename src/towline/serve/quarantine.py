"""Remember for a while which inputs killed an engine, so that they do not do it again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from towline.core.frames import pack_strings

REMEMBERED = 1024
REMEMBERED_S = 600.0


class Quarantine:
    """Of one version. Costs nothing while empty: inputs are only hashed when there is something to compare with."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # Digest -> when it is forgotten. Empty for nearly all versions, nearly always: look before you call.
        self.until: OrderedDict[str, float] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self.until)

    def add(self, inputs: dict[str, Any]) -> str:
        """Returns the digest, for the event that tells of it."""
        digest = digest_of(inputs)
        self.until[digest] = self._clock() + REMEMBERED_S
        # Oldest first, also when it was here already: `holds` drops from the front.
        self.until.move_to_end(digest)
        while len(self.until) > REMEMBERED:
            self.until.popitem(last=False)
        return digest

    def holds(self, inputs: dict[str, Any]) -> bool:
        now = self._clock()
        while self.until and next(iter(self.until.values())) <= now:
            self.until.popitem(last=False)
        return bool(self.until) and digest_of(inputs) in self.until


def digest_of(inputs: dict[str, Any]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, array in inputs.items():
        digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(pack_strings(array) if array.dtype == object else array.tobytes())
    return digest.hexdigest()
