"""An open store in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store_making import HandClock

from towline.store.sqlite import SqliteStore, open_store


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path, clock: HandClock) -> Iterator[SqliteStore]:
    with open_store(home, clock=clock) as opened:
        yield opened
