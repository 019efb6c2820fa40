"""Request and Response: named arrays in, named arrays out. What every protocol decodes to and encodes from."""

from __future__ import annotations

from typing import Any

import msgspec


class Request(msgspec.Struct, frozen=True, gc=False):
    """One inference request, already checked against the signature (serve/codecs/check.py).

    `inputs` are C-contiguous, little-endian arrays in the signature's order; strings are object arrays of bytes.
    `rows` is the size of the leading batch dim, 1 when the version has none. `deadline` is on the monotonic clock.
    `outputs` names the outputs wanted, in order; empty means all. `signature` names the signature; empty means the default one.
    """

    inputs: dict[str, Any]
    rows: int = 1
    deadline: float | None = None
    id: str = ""
    priority: int = 0
    outputs: tuple[str, ...] = ()
    signature: str = ""


class Merged(msgspec.Struct, gc=False):
    """The outputs of requests that ran as one, and what encoders made of all of them at once. Lives as long as those answers."""

    outputs: dict[str, Any]
    made: Any = None


class Response(msgspec.Struct, frozen=True, gc=False):
    """The answer to one request. Arrays are views that are valid only until the callback that received them returns.

    One of several that ran as one is rows `start` to `stop` of what is `merged`, and `own` is empty.
    """

    own: dict[str, Any]
    name: str
    number: int
    merged: Merged | None = None
    start: int = 0
    stop: int = 0

    @property
    def outputs(self) -> dict[str, Any]:
        """Output name -> array."""
        merged = self.merged
        if merged is None:
            return self.own
        start, stop = self.start, self.stop
        return {name: array[start:stop] for name, array in merged.outputs.items()}
