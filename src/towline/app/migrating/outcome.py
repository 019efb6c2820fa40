"""What became of a migration, of each model in it and of each of its versions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towline.convert.migrate.plan import Plan, PlannedModel, PlannedVersion
from towline.core.deployment import Deployment


@dataclass(frozen=True)
class VersionOutcome:
    """`state`: imported, existed (the same was there already), failed, or planned (nothing was done). `stored` is its number here."""

    planned: PlannedVersion
    state: str
    stored: int = 0
    digest: str = ""
    error: str = ""
    hint: str = ""


@dataclass(frozen=True)
class ModelOutcome:
    model: PlannedModel
    versions: tuple[VersionOutcome, ...] = ()
    deployment: Deployment | None = None

    @property
    def is_whole(self) -> bool:
        return not self.model.problem and all(one.state != "failed" for one in self.versions)


@dataclass(frozen=True)
class Migration:
    """What became of a plan. `files` were written, none in a dry run; `command` starts the server that takes the old one's place."""

    plan: Plan
    models: tuple[ModelOutcome, ...]
    command: str
    files: tuple[Path, ...] = ()

    @property
    def is_whole(self) -> bool:
        return all(one.is_whole for one in self.models)

    def as_json(self) -> dict[str, Any]:
        return {
            "server": self.plan.server,
            "models": [_model_json(one) for one in self.models],
            "settings": dict(self.plan.settings),
            "mapped": [{"old": row.old, "value": row.value, "here": row.ours, "why": row.why} for row in self.plan.rows],
            "files": [str(file) for file in self.files],
            "command": self.command,
        }


def _model_json(one: ModelOutcome) -> dict[str, Any]:
    model = one.model
    versions = [
        {
            "number": version.stored or version.planned.number,
            "old": version.planned.old,
            "source": str(version.planned.source),
            "state": version.state,
            **({"digest": version.digest} if version.digest else {}),
            **({"error": version.error, "hint": version.hint} if version.error else {}),
        }
        for version in one.versions
    ]
    deployed = one.deployment or Deployment(model.name, model.policy, dict(model.labels), model.limits)
    return {
        "name": model.name,
        "versions": versions,
        "policy": str(deployed.policy),
        "labels": deployed.labels,
        "deployed": one.deployment is not None,
        "notes": list(model.notes),
        **({"problem": model.problem, "hint": model.hint} if model.problem else {}),
    }
