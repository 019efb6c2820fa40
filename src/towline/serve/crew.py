"""The lanes of one slot: one, or several where a version is to run in more than one worker at a time."""

from __future__ import annotations

from collections.abc import Iterator

from towline.serve.jobs import Batch
from towline.serve.lanes import Lane


class Crew:
    """Those that live, in the order they came. `lane` is what a batcher is given: the one there is, or all of them as one."""

    def __init__(self) -> None:
        self._lanes: list[Lane] = []

    def __iter__(self) -> Iterator[Lane]:
        return iter(tuple(self._lanes))

    def __len__(self) -> int:
        return len(self._lanes)

    def join(self, lane: Lane) -> None:
        self._lanes.append(lane)

    def leave(self, lane: Lane) -> None:
        if lane in self._lanes:
            self._lanes.remove(lane)

    @property
    def pids(self) -> tuple[int, ...]:
        return tuple(lane.pid for lane in self._lanes if lane.pid and not lane.is_dead)

    @property
    def max_rows(self) -> int:
        """Of the lane that came last; all run the same model on the same machine."""
        return self._lanes[-1].max_rows if self._lanes else 0

    @property
    def pads_up_to(self) -> int:
        """As with the rows."""
        return self._lanes[-1].pads_up_to if self._lanes else 0

    @property
    def lane(self) -> Lane | SharedLane | None:
        if len(self._lanes) > 1:
            return SharedLane(tuple(self._lanes))
        return self._lanes[0] if self._lanes else None


class SharedLane:
    """Several lanes as one: each batch goes to the one that has most room."""

    def __init__(self, lanes: tuple[Lane, ...]) -> None:
        self._lanes = lanes
        self.merges = all(lane.merges for lane in lanes)
        self.threads = sum(lane.threads for lane in lanes)

    @property
    def idle(self) -> int:
        return sum(lane.idle for lane in self._lanes)

    def run(self, batch: Batch) -> None:
        max(self._lanes, key=lambda lane: lane.idle).run(batch)
