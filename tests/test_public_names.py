"""What `import towline` gives stays what it says, whatever was imported since."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

import towline
import towline.optimize.base
import towline.serve.contract
from towline.core.errors import NotFound


@pytest.mark.parametrize("name", towline.__all__)
def test_every_public_name_is_there(name: str):
    assert getattr(towline, name) is not None


def test_a_verb_that_has_a_room_of_its_name_can_be_called_again_and_again(tmp_path: Path):
    for _ in range(2):
        with pytest.raises(NotFound, match="nothing"):
            towline.optimize("nothing", tmp_path / "data.npz", home=tmp_path)


@pytest.mark.parametrize("name", [name for name in towline.__all__ if isinstance(getattr(towline, name), ModuleType)])
def test_a_room_is_still_what_its_files_are_imported_from(name: str):
    room = importlib.import_module(f"towline.{name}")

    assert getattr(towline, name) is room
    assert not inspect.isfunction(room)
    assert callable(room)
