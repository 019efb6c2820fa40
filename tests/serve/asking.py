"""A Control that writes down what it is asked, for tests of the protocols that ask it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from towline.core.errors import TowlineError
from towline.serve.contract import Asked, Count, IndexEntry, Loaded, VersionStatistics, WishedModel

COUNTED = VersionStatistics(
    "mlp",
    1,
    1_700_000_000_123,
    rows=7,
    executions=2,
    success=Count(3, 9000),
    fail=Count(1, 50),
    queue=Count(3, 2000),
    compute=Count(3, 6000),
    rest=Count(3, 1000),
    sizes={3: Count(1, 1000), 4: Count(1, 2500)},
    memory_bytes=1 << 20,
)


class Asking:
    """Answers from what it was given."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refusal: TowlineError | None = None
        self.index = [
            IndexEntry("mlp", 1, "READY"),
            IndexEntry("mlp", 2, "UNAVAILABLE", "It broke."),
            IndexEntry("idle", None, "UNAVAILABLE", "not loaded"),
        ]

    def repository_index(self) -> list[IndexEntry]:
        return self.index

    def statistics(self, name: str = "", number: int | None = None) -> list[VersionStatistics]:
        self.asked.append(("statistics", name, number))
        return [COUNTED]

    def max_batch(self, served: Any) -> int:
        return 32

    async def load(self, name: str, asked: Asked, *, actor: str) -> Loaded:
        return await self._hear("load", name, asked, actor) or Loaded(name, (3, 4), ("instance_group: not needed",))

    async def unload(self, name: str, *, actor: str) -> None:
        await self._hear("unload", name, actor)

    async def reload(self, models: Sequence[WishedModel], *, actor: str) -> None:
        await self._hear("reload", list(models), actor)

    async def _hear(self, *asked: Any) -> None:
        self.asked.append(asked)
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
