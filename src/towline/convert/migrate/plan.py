"""What a migration will do: versions to import, deployments and settings to write, and a row for each old word. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from towline.convert.triton_config import TritonConfig
from towline.core.deployment import Limits, Policy
from towline.core.errors import UsageError


@dataclass(frozen=True)
class PlannedVersion:
    """One version to import as `number`. `source` is a file or a folder; of a .mar archive, the file in it is `inside`.

    `given` are words for the import, by its own names: labels, preset, arch, input, …; `labels` and `arch` are paths, in an archive those
    inside it. `old` is how the old server called the version. `check` holds what its configuration declares of the tensors.
    """

    number: int
    source: Path
    inside: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    old: str = ""
    check: TritonConfig | None = None


@dataclass(frozen=True)
class PlannedModel:
    """A model with what becomes of it, or with `problem`: why nothing does, and `hint`: what to do then.

    `is_served`: it is deployed, rather than only there to be loaded.
    `notes` are sentences about fields of its own that have another meaning here, or none.
    """

    name: str
    versions: tuple[PlannedVersion, ...] = ()
    policy: Policy = field(default_factory=Policy)
    labels: Mapping[str, int] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    notes: tuple[str, ...] = ()
    problem: str = ""
    hint: str = ""
    is_served: bool = True


@dataclass(frozen=True)
class Row:
    """An old flag or field with its value, what it is here, if anything, and why."""

    old: str
    value: str
    ours: str
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """`server` is the old one, `compat` the word of --compat for its clients; `settings` go into towline.toml."""

    server: str
    compat: str
    models: tuple[PlannedModel, ...]
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()


def refused_model(name: str, problem: str, hint: str, notes: tuple[str, ...] = ()) -> PlannedModel:
    return PlannedModel(name, problem=problem, hint=hint, notes=notes)


def bad(message: str, hint: str = "", *, field: str = "") -> UsageError:
    """What the old server's own files or flags say cannot be read."""
    return UsageError(message, code="BAD_MIGRATION_SOURCE", hint=hint, field=field)
