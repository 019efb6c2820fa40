"""What `towline doctor` asks of a store: is the database whole, is every version there, is every file what it was?"""

from __future__ import annotations

import stat
from collections.abc import Iterator

from towline.store import versions
from towline.store.database import Database
from towline.store.files import Files

_PAGE = 500


def findings(db: Database, files: Files, *, deep: bool) -> Iterator[str]:
    """One sentence per finding. `deep` reads every byte of every version."""
    yield from _database(db)
    yield from _folders(db, files, deep=deep)
    yield from _strangers(db, files)
    yield from _permissions(files)


def _database(db: Database) -> Iterator[str]:
    with db.read():
        integrity = [str(row[0]) for row in db.rows("PRAGMA integrity_check(20)")]
        orphans = db.rows("PRAGMA foreign_key_check")
    yield from (f"towline.db is damaged: {line}. Put a backup in its place." for line in integrity if line != "ok")
    yield from (f"towline.db: a row of '{row['table']}' points at a row of '{row['parent']}' that is gone." for row in orphans)


def _folders(db: Database, files: Files, *, deep: bool) -> Iterator[str]:
    before: tuple[str, int] | None = None
    # A folder that several names hold is read once.
    condition: dict[str, str] = {}
    while True:
        with db.read():
            page = versions.page(db, files, "", _PAGE, before)
        for version in page:
            if version.digest not in condition:
                condition[version.digest] = _condition(files, version.digest, deep=deep)
            if condition[version.digest] == "missing":
                yield f"The files of {version} are gone. Import the same model again, or remove {version}."
            elif condition[version.digest] == "damaged":
                yield f"The files of {version} were changed after sealing; it will not be loaded. Import the same model again."
        if len(page) < _PAGE:
            return
        before = (page[-1].name, page[-1].number)


def _condition(files: Files, digest: str, *, deep: bool) -> str:
    if deep:
        return files.condition(digest)
    return "present" if (files.version_folder(digest) / "manifest.json").is_file() else "missing"


def _strangers(db: Database, files: Files) -> Iterator[str]:
    if not files.versions.is_dir():
        return
    for folder in sorted(files.versions.iterdir()):
        digest = folder.name.replace("sha256-", "sha256:", 1)
        with db.read():
            is_known = versions.is_held(db, digest) or db.row("SELECT 1 FROM unfinished WHERE digest = ?", digest) is not None
        if not is_known:
            yield f"versions/{ascii(folder.name)[1:-1]} belongs to no version; it is left alone. If you do not miss one, delete it."


def _permissions(files: Files) -> Iterator[str]:
    for path in (files.home, files.versions, files.staging, files.database):
        if path.exists() and path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            yield f"'{path.name}' can be written by other users, who could change models. Run: chmod go-w on it."
