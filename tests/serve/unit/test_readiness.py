"""When a server may take requests, and when it calls itself ready: the two are not one moment."""

from __future__ import annotations

import asyncio

from slot_scene import LIMITS, Scene

from towline.serve.dataplane import ServingPlane
from towline.serve.router import WantedModel, WantedVersion

LOST = WantedModel("m", (WantedVersion("m", 1, "sha256:1", "/nowhere"),), 1, {}, {})


def new_plane() -> ServingPlane:
    return ServingPlane(Scene().slot._around, LIMITS, keep_s=0.0, on_state=lambda: None)


def states(plane: ServingPlane) -> tuple[bool, bool, bool]:
    return plane.is_settled(), plane.is_ready(), plane.is_started()


def test_a_plane_is_settled_when_all_is_known_and_ready_only_with_its_ports_open() -> None:
    async def scenario() -> list[tuple[bool, bool, bool]]:
        plane = new_plane()
        plane.are_ports_open = False
        seen = [states(plane)]
        for is_complete in (False, True):
            plane.want([], is_complete=is_complete)
            seen.append(states(plane))
        plane.are_ports_open = True
        return [*seen, states(plane)]

    assert asyncio.run(scenario()) == [(False, False, False), (False, False, False), (True, False, False), (True, True, True)]


def test_nobody_waits_longer_for_a_model_that_has_failed_to_load() -> None:
    async def scenario() -> tuple[bool, bool, bool]:
        plane = new_plane()
        plane.want([LOST])
        await asyncio.sleep(0)
        return states(plane)

    assert asyncio.run(scenario()) == (True, False, False)
