"""Aliases and deployments, and what they need; every function runs inside the caller's transaction."""

from __future__ import annotations

import json
from dataclasses import asdict

from towline.core.deployment import Deployment, Limits, Policy, chosen_numbers
from towline.core.store import AliasMove
from towline.store.database import Database, Row


def aliases(db: Database, name: str = "") -> dict[str, dict[str, int]]:
    if name:
        rows = db.rows("SELECT * FROM aliases WHERE name = ? ORDER BY alias", name)
    else:
        rows = db.rows("SELECT * FROM aliases ORDER BY name, alias")
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["name"], {})[row["alias"]] = row["number"]
    return found


def move_alias(db: Database, name: str, move: AliasMove) -> None:
    """Point an alias elsewhere, or nowhere, and write it into the history."""
    if move.number is None:
        db.execute("DELETE FROM aliases WHERE name = ? AND alias = ?", name, move.alias)
    else:
        db.execute("INSERT OR REPLACE INTO aliases VALUES (?, ?, ?)", name, move.alias, move.number)
    db.execute(
        "INSERT INTO alias_moves (name, alias, number, actor, why, at_s) VALUES (?, ?, ?, ?, ?, ?)",
        name,
        move.alias,
        move.number,
        move.actor,
        move.why,
        move.at_s,
    )


def alias_moves(db: Database, name: str) -> list[AliasMove]:
    """Newest last."""
    rows = db.rows("SELECT * FROM alias_moves WHERE name = ? ORDER BY id", name)
    return [AliasMove(row["alias"], row["number"], row["actor"], row["why"], row["at_s"]) for row in rows]


def deployment(db: Database, name: str) -> Deployment | None:
    row = db.row("SELECT * FROM deployments WHERE folded = ? AND name = ?", name.lower(), name)
    return _deployment(row) if row else None


def deployments(db: Database) -> tuple[Deployment, ...]:
    return tuple(_deployment(row) for row in db.rows("SELECT * FROM deployments ORDER BY name"))


def save(db: Database, deployment: Deployment) -> None:
    body = json.dumps(as_data(deployment))
    db.execute(
        "INSERT OR REPLACE INTO deployments VALUES (?, ?, ?, ?)", deployment.name.lower(), deployment.name, deployment.revision, body
    )


def forget(db: Database, name: str) -> None:
    db.execute("DELETE FROM deployments WHERE folded = ?", name.lower())


def as_data(deployment: Deployment) -> dict[str, object]:
    """The deployment as plain JSON, for its row and its event."""
    return asdict(deployment)


def needed_by(name: str, number: int, existing: tuple[int, ...], aliases: dict[str, int], deployed: Deployment | None) -> str:
    """What would break without this version, in words; empty when nothing would. Pure."""
    pointing = sorted(alias for alias, target in aliases.items() if target == number)
    if pointing:
        return f"the alias {name}@{pointing[0]} points at it"
    if deployed is None:
        return ""
    labels = sorted(label for label, target in deployed.labels.items() if target == number)
    if labels:
        return f"the label '{labels[0]}' of the deployment '{name}' points at it"
    if number in chosen_numbers(deployed.policy, existing, aliases):
        return f"the deployment '{name}' serves it ({deployed.policy})"
    return ""


def _deployment(row: Row) -> Deployment:
    body = json.loads(row["body"])
    policy = Policy(**{**body["policy"], "numbers": tuple(body["policy"]["numbers"])})
    return Deployment(row["name"], policy, body["labels"], Limits(**body["limits"]), row["revision"])
