"""What environments there are, and in which state: ready, out of date, being made, or only possible."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from towline.app.environments.recipes import RECIPES, digest
from towline.core.environments import environments_folder
from towline.core.lock import is_held

READY = "ready.json"

# half made: what a maker that was killed left behind. broken: its Python is gone or cannot run.
State = Literal["ready", "out of date", "broken", "being made", "half made", "missing"]


@dataclass(frozen=True)
class Environment:
    """`size_bytes` on disk and `packages` as they were when it was made; `added` are requirements beside the recipe's."""

    name: str
    state: State
    folder: Path
    purpose: str = ""
    python: str = ""
    size_bytes: int = 0
    made_s: float = 0.0
    packages: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def environments() -> tuple[Environment, ...]:
    """Every environment there is or could be, by name: those with a recipe first."""
    folder = environments_folder()
    others = sorted(one.parent.name for one in folder.glob(f"*/{READY}") if one.parent.name not in RECIPES)
    return tuple(look(folder / name) for name in (*RECIPES, *others))


def look(place: Path) -> Environment:
    """The environment in this folder, or what could be there."""
    recipe = RECIPES.get(place.name)
    purpose = recipe.purpose if recipe else ""
    about = _read(place / READY)
    if about is None:
        return Environment(place.name, _unmade(place), place, purpose)
    state: State = "ready"
    if not os.access(place / "bin" / "python", os.X_OK):
        state = "broken"
    elif recipe is not None and about.get("digest") != digest(recipe.requirements):
        state = "out of date"
    return Environment(
        place.name,
        state,
        place,
        purpose,
        python=str(about.get("python", "")),
        size_bytes=int(about.get("size_bytes", 0)),
        made_s=float(about.get("made_s", 0)),
        packages=tuple(map(str, about.get("packages", ()))),
        added=tuple(map(str, about.get("added", ()))),
    )


def lock_of(place: Path) -> Path:
    return place.with_name(f".{place.name}.lock")


def building_of(place: Path) -> Path:
    """Where it is made; renamed when it is whole."""
    return place.with_name(f".{place.name}.building")


def _unmade(place: Path) -> State:
    if _is_being_made(place):
        return "being made"
    return "half made" if building_of(place).exists() else "missing"


def _is_being_made(place: Path) -> bool:
    try:
        return is_held(lock_of(place))
    except OSError:
        # Another user's, who lets nobody look.
        return False


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        # Not written by us: as good as out of date.
        return {}
    return found if isinstance(found, dict) else {}
