"""Make and remove the environments of frameworks: beside, whole, then in place; one maker at a time."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towline.app.environments.installing import Progress, install, last_words, make_venv, run
from towline.app.environments.listing import READY, Environment, building_of, environments, lock_of, look
from towline.app.environments.recipes import Recipe, digest, recipe_of
from towline.app.machine import free_bytes
from towline.core.environments import environments_folder
from towline.core.errors import Conflict, NotFound, TowlineError, UsageError

# Wheels lie packed and unpacked at once while pip works.
_WHILE_MAKING = 1.3


@dataclass(frozen=True)
class Made:
    environment: Environment
    existed: bool
    seconds: float


def create_environment(
    name: str, *, add: Sequence[str] = (), python: str = "", again: bool = False, progress: Progress = lambda words: None
) -> Made:
    """Make the environment `name` unless it is ready and of today's recipe. `add` are requirements beside the recipe's; they are kept when
    it is made again. It appears when it is whole: a maker that is killed leaves nothing that looks ready, and the next one starts anew.

    Raises UsageError for an unknown name or a Python that is too old, TowlineError when pip fails or the disk is full.
    """
    started_s = time.monotonic()
    recipe = recipe_of(name)
    place = environments_folder() / name
    with _only_maker(place, progress) as lock:
        _clear_up(place)
        there = look(place)
        if there.state == "ready" and not again and set(add) <= set(there.added):
            return Made(there, existed=True, seconds=time.monotonic() - started_s)
        _check_room(place.parent, recipe)
        with _beside(place) as building:
            _fill(building, recipe, tuple(dict.fromkeys((*there.added, *add))), _checked(python), lock, progress)
            _put_in_place(building, place)
        return Made(look(place), existed=False, seconds=time.monotonic() - started_s)


def remove_environment(name: str) -> Environment:
    """Remove it, and return what it was. Raises NotFound, and Conflict while it is being made."""
    found = next((one for one in environments() if one.name == name), None)
    if found is None or found.state == "missing":
        raise NotFound(f"There is no environment '{name[:64]}'.", hint="'towline env ls' shows those there are.")
    if found.state == "being made":
        raise Conflict(f"The environment '{name}' is being made.", hint="Stop the process that makes it first.")
    with _only_maker(found.folder, lambda words: None):
        # Away at once; its files after that, however long they take.
        _move_away(found.folder)
        _clear_up(found.folder)
    return found


def _fill(building: Path, recipe: Recipe, added: Sequence[str], python: str, lock: int, progress: Progress) -> None:
    started_s = time.monotonic()
    progress(f"Making the environment '{recipe.name}' with {python}")
    pip = make_venv(building, python=python, held=[lock])

    def still_there() -> str:
        return f"… {_size_bytes(building) >> 20} MiB on disk after {time.monotonic() - started_s:.0f} s"

    install(pip, [*recipe.requirements, *added], progress=progress, still_there=still_there, held=[lock])
    progress(f"Trying it: import {', '.join(recipe.modules)}")
    trial = f"import sys; sys.modules.update(dict.fromkeys({recipe.silenced!r})); import {', '.join(recipe.modules)}"
    said, code = run([str(building / "bin" / "python"), "-P", "-c", trial], held=[lock])
    if code != 0:
        raise TowlineError(
            f"The environment '{recipe.name}' was installed and does not work: {last_words(said)}",
            code="ENVIRONMENT_FAILED",
            hint="Nothing was kept. If it fails again, pip's index has other builds than this machine can run.",
        )
    _forget_scripts(building)
    _record(building, recipe, added)


def _forget_scripts(building: Path) -> None:
    """They name the folder that this is about to leave; whatever runs here is started by its Python."""
    for script in (building / "bin").iterdir():
        if not script.name.startswith("python"):
            script.unlink()


def _record(building: Path, recipe: Recipe, added: Sequence[str]) -> None:
    """Written last, and on disk before the folder gets its name."""
    about = {
        "environment": recipe.name,
        "requirements": list(recipe.requirements),
        "added": list(added),
        "digest": digest(recipe.requirements),
        "python": _python_version(building),
        "packages": _packages(building),
        "size_bytes": _size_bytes(building),
        "made_s": time.time(),
    }
    with open(building / READY, "w", encoding="utf-8") as file:
        json.dump(about, file, indent=2)
        file.flush()
        os.fsync(file.fileno())


def _put_in_place(building: Path, place: Path) -> None:
    _move_away(place)
    building.rename(place)
    shutil.rmtree(_old(place), ignore_errors=True)


def _move_away(place: Path) -> None:
    if place.exists():
        shutil.rmtree(_old(place), ignore_errors=True)
        place.rename(_old(place))


def _clear_up(place: Path) -> None:
    """What a killed maker left behind goes. Of one that was whole but for its name, that is a minute's work lost, and no case more."""
    for leftover in (building_of(place), _old(place)):
        shutil.rmtree(leftover, ignore_errors=True)


def _old(place: Path) -> Path:
    return place.with_name(f".{place.name}.old")


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    """A folder of another name, gone at the end unless it was renamed."""
    building = building_of(place)
    building.mkdir(mode=0o755)
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


@contextmanager
def _only_maker(place: Path, progress: Progress) -> Iterator[int]:
    """Held by whoever makes `place`, and by the pip it started, so that nobody clears away what is still written to."""
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(lock_of(place), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"Another process is making '{place.name}': waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _check_room(folder: Path, recipe: Recipe) -> None:
    needed, free = int(recipe.disk_bytes * _WHILE_MAKING), free_bytes(folder)
    if free < needed:
        raise TowlineError(
            f"The environment '{recipe.name}' needs {needed >> 20} MiB in {folder}, where {free >> 20} MiB are free.",
            code="DISK_FULL",
            hint="Make room, or name another place: TOWLINE_ENVIRONMENTS=/DIR",
        )


def _checked(python: str) -> str:
    """The Python to make it with: ours unless another is named, which must be able to run our package."""
    if not python:
        return sys.executable
    asked = shutil.which(python)
    if asked is None:
        raise UsageError(f"--python: {python} is no program.", hint="Give the path of a Python 3.11 or newer.")
    _, code = run([asked, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"])
    if code != 0:
        raise UsageError(f"--python: {asked} is no Python 3.11 or newer.", hint="Give the path of one that is.")
    return asked


def _python_version(folder: Path) -> str:
    lines = (folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    return next((line.partition("=")[2].strip() for line in lines if line.startswith("version")), "")


def _packages(folder: Path) -> list[str]:
    """`name version` of each installed package, by name."""
    infos = folder.glob("lib/python*/site-packages/*.dist-info")
    return sorted(" ".join(info.name.removesuffix(".dist-info").rsplit("-", 1)) for info in infos)


def _size_bytes(folder: Path) -> int:
    """What its files take; links count for nothing."""
    total, waiting = 0, [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            # pip moves its folders about while we look.
            continue
    return total
