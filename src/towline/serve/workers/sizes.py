"""How much memory a front and one worker share. Pure but for the number of cores; who drives a worker without a loop needs no more."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from towline.core.arena import Arena
from towline.core.cpu import usable_cores
from towline.core.handler import MAX_CONCURRENT
from towline.core.manifest import Manifest


@dataclass(frozen=True)
class ArenaSize:
    slots: int
    slot_bytes: int

    def create(self) -> Arena:
        return Arena.create(slots=self.slots, slot_bytes=self.slot_bytes)

    def fitting(self, manifest: Manifest) -> ArenaSize:
        """With a slot for each request that a handler takes at once."""
        return (
            self if manifest.handler is None else replace(self, slots=max(self.slots, min(manifest.handler.max_concurrent, MAX_CONCURRENT)))
        )


def default_arena_size(max_request_bytes: int) -> ArenaSize:
    """A JSON body may grow fourfold when decoded. Sparse memory: only what is written is paid for."""
    page = os.sysconf("SC_PAGE_SIZE")
    slot_bytes = -(-(4 * max_request_bytes + (1 << 20)) // page) * page
    # One for each run at once, and one for what is given ahead.
    return ArenaSize(slots=min(max(usable_cores(), 2), 16) + 1, slot_bytes=slot_bytes)
