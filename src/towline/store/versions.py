"""The rows of models and versions; every function runs inside the caller's transaction."""

from __future__ import annotations

from pathlib import Path

from towline.core.errors import Conflict, InvalidRequest, NotFound
from towline.core.refs import Ref, clip
from towline.core.version import Version
from towline.store.database import Database, Row
from towline.store.files import Files, Sealed

_SHOWN = 10
_MAX_NUMBER = 2**63 - 1


def check_case(db: Database, name: str) -> None:
    """Refuse a name that differs from one in use only by case: people and file systems would mix them up."""
    row = db.row(
        """SELECT name FROM models WHERE folded = ?1 AND name <> ?2 AND EXISTS (SELECT 1 FROM versions WHERE versions.name = models.name)
           UNION SELECT name FROM deployments WHERE folded = ?1 AND name <> ?2""",
        name.lower(),
        name,
    )
    if row:
        raise Conflict(
            f"'{name}' differs from the existing model '{row['name']}' only by case.",
            code="NAME_TAKEN",
            hint=f"Use '{row['name']}', or a name of its own.",
        )


def check_number(number: int | None) -> None:
    if number is not None and not 1 <= number <= _MAX_NUMBER:
        raise InvalidRequest(f"A version's number is from 1 to {_MAX_NUMBER}, not {number}.", code="BAD_VERSION", field="number")


def add(db: Database, files: Files, name: str, sealed: Sealed, created_s: float, number: int | None = None) -> Version:
    """Insert a version under the next number of its name, or the one asked for. The next one was never given, also not to a removed one."""
    row = db.row("SELECT last_number FROM models WHERE folded = ?", name.lower())
    last = row["last_number"] if row else 0
    number = last + 1 if number is None else number
    taken = db.row("SELECT digest FROM versions WHERE name = ? AND number = ?", name, number)
    if taken:
        raise Conflict(
            f"{name}:{number} exists with another content ({taken['digest'][:19]}…).",
            code="NUMBER_TAKEN",
            field="number",
            hint="A version never changes: give the new content a number of its own.",
        )
    last = max(last, number)
    # Written anew with the case of today: when the last version of 'Digits' is gone, 'digits' may follow it.
    if row:
        db.execute("UPDATE models SET name = ?, last_number = ? WHERE folded = ?", name, last, name.lower())
    else:
        db.execute("INSERT INTO models VALUES (?, ?, ?)", name.lower(), name, last)
    db.execute(
        "INSERT INTO versions (name, number, digest, size_bytes, created_s, engine, source_digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
        name,
        number,
        sealed.digest,
        sealed.size_bytes,
        created_s,
        sealed.engine,
        sealed.source_digest,
    )
    return Version(
        name, number, sealed.digest, files.version_folder(sealed.digest), sealed.size_bytes, created_s, sealed.engine, sealed.source_digest
    )


def delete(db: Database, version: Version) -> None:
    db.execute("DELETE FROM versions WHERE name = ? AND number = ?", version.name, version.number)


def with_digest(db: Database, files: Files, name: str, digest: str) -> Version | None:
    row = db.row("SELECT * FROM versions WHERE name = ? AND digest = ?", name, digest)
    return _version(files, row) if row else None


def with_source(db: Database, files: Files, name: str, source_digest: str) -> Version | None:
    row = db.row("SELECT * FROM versions WHERE name = ? AND source_digest = ? ORDER BY number DESC LIMIT 1", name, source_digest)
    return _version(files, row) if row else None


def is_held(db: Database, digest: str) -> bool:
    """Whether any name holds this digest."""
    return db.row("SELECT 1 FROM versions WHERE digest = ? LIMIT 1", digest) is not None


def page(db: Database, files: Files, name: str, limit: int, before: tuple[str, int] | None) -> list[Version]:
    """Two walks along the primary key: the rest of the model the last page ended in, then the models behind it."""
    if limit < 1:
        raise InvalidRequest(f"A page of versions holds at least 1, not {limit}.", field="limit")
    last_name, last_number = before or (name, _MAX_NUMBER)
    if name and name != last_name:
        # The page before ended in another model: of this one all is left, or nothing.
        last_name, last_number = name, _MAX_NUMBER if last_name < name else 0
    found = db.rows("SELECT * FROM versions WHERE name = ? AND number < ? ORDER BY number DESC LIMIT ?", last_name, last_number, limit)
    if not name and len(found) < limit:
        rest = limit - len(found)
        found += db.rows("SELECT * FROM versions WHERE name > ? ORDER BY name, number DESC LIMIT ?", last_name, rest)
    return [_version(files, row) for row in found]


def names(db: Database) -> tuple[str, ...]:
    """Of all models, in order."""
    return tuple(row["name"] for row in db.rows("SELECT DISTINCT name FROM versions ORDER BY name"))


def numbers(db: Database, name: str) -> tuple[int, ...]:
    """Ascending."""
    return tuple(row["number"] for row in db.rows("SELECT number FROM versions WHERE name = ? ORDER BY number", name))


def resolve(db: Database, files: Files, ref: Ref) -> Version:
    """The version a ref points at. Raises NotFound, or Conflict for a digest that is not one version's."""
    if ref.digest:
        return _of_digest(db, files, ref.digest)
    row: Row | None
    if ref.alias:
        row = db.row(
            "SELECT versions.* FROM aliases JOIN versions USING (name, number) WHERE aliases.name = ? AND alias = ?", ref.name, ref.alias
        )
    elif ref.number is not None:
        row = db.row("SELECT * FROM versions WHERE name = ? AND number = ?", ref.name, ref.number)
    else:
        row = db.row("SELECT * FROM versions WHERE name = ? ORDER BY number DESC LIMIT 1", ref.name)
    if row is None:
        raise _not_found(db, ref)
    return _version(files, row)


def holders(db: Database, digest: str) -> list[str]:
    """All `name:number` that hold exactly this digest."""
    return [f"{row['name']}:{row['number']}" for row in db.rows("SELECT name, number FROM versions WHERE digest = ?", digest)]


def _of_digest(db: Database, files: Files, prefix: str) -> Version:
    # 'g' is the first letter that no digest holds, so this is the range of all that begin so.
    digests = db.rows("SELECT DISTINCT digest FROM versions WHERE digest >= ? AND digest < ? LIMIT 3", prefix, prefix + "g")
    if not digests:
        raise NotFound(f"No version has a digest that begins {clip(prefix, 32)}.", code="VERSION_NOT_FOUND", hint="See 'towline ls'.")
    if len(digests) > 1:
        listed = ", ".join(row["digest"][:23] + "…" for row in digests)
        raise Conflict(f"{clip(prefix, 32)} begins more than one digest: {listed}.", code="AMBIGUOUS", hint="Give more of its digits.")
    row = db.rows("SELECT * FROM versions WHERE digest = ? ORDER BY name, number DESC LIMIT 1", digests[0]["digest"])[0]
    return _version(files, row)


def _not_found(db: Database, ref: Ref) -> NotFound:
    """Say what there is instead."""
    existing = numbers(db, ref.name)
    if not existing:
        return NotFound(f"There is no model '{clip(ref.name)}'.", code="MODEL_NOT_FOUND", hint=_nearest(db, ref.name))
    if ref.alias:
        rows = db.rows("SELECT alias, number FROM aliases WHERE name = ? ORDER BY alias", ref.name)
        there = ", ".join(f"@{row['alias']} (version {row['number']})" for row in rows[:_SHOWN]) or "none"
        return NotFound(
            f"{ref.name} has no alias '{clip(ref.alias)}'. It has: {there}.",
            code="ALIAS_NOT_FOUND",
            hint=f"Set it with 'towline alias {ref.name} {clip(ref.alias)} NUMBER'.",
        )
    there = ", ".join(str(number) for number in existing[-_SHOWN:])
    return NotFound(f"{ref.name} has no version {ref.number}. It has: {there}.", code="VERSION_NOT_FOUND")


def _nearest(db: Database, name: str) -> str:
    import difflib

    rows = db.rows("SELECT DISTINCT name FROM versions ORDER BY name LIMIT 1000")
    names = {row["name"].lower(): row["name"] for row in rows}
    near = difflib.get_close_matches(name.lower(), names, n=1)
    if near:
        return f"Did you mean '{names[near[0]]}'?"
    if not names:
        return "The store is empty. Add a model with 'towline import FILE --name NAME'."
    shown = ", ".join(list(names.values())[:_SHOWN])
    return f"There is: {shown}{', …' if len(names) > _SHOWN else ''}. See 'towline ls'."


def _version(files: Files, row: Row) -> Version:
    path: Path = files.version_folder(row["digest"])
    return Version(
        row["name"], row["number"], row["digest"], path, row["size_bytes"], row["created_s"], row["engine"], row["source_digest"]
    )
