"""Thirty versions come and go; nothing stays behind but the one that serves."""

from __future__ import annotations

from pathlib import Path

import pytest
from leaks import MIB, prepare, settled, swap

from towline.testing.server import RunningServer

# Thirty loads take their time: in the tier that has it.
pytestmark = pytest.mark.services

CYCLES = 30


def test_thirty_loads_and_unloads_leave_no_memory_process_socket_or_segment_behind(tmp_path: Path) -> None:
    with RunningServer("wide@live", home=prepare(tmp_path), settings={"keep_versions_s": 0}) as server:
        swap(server, 2)
        before = settled(server)
        swap(server, CYCLES)
        after = settled(server, before)

    assert after.more_than(before) == {}
    assert (after.rss_bytes - before.rss_bytes) / MIB < 16
