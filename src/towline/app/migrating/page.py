"""What a migration leaves to read: towline.toml, and MIGRATION.md with a row for each old flag and field. Pure."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from towline.convert.migrate.plan import Plan

if TYPE_CHECKING:
    from towline.app.migrating.outcome import Migration, ModelOutcome, VersionOutcome

SETTINGS_HEAD = "# Written by 'towline migrate'"
_MARKS = {"imported": "imported", "existed": "was there already", "failed": "NOT IMPORTED", "planned": "planned"}


def settings_text(plan: Plan) -> str:
    """towline.toml. JSON's text, numbers and booleans are TOML's as well."""
    lines = [f"{SETTINGS_HEAD} from {plan.server}; it may be written over by the next run."]
    lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in plan.settings.items()]
    return "\n".join(lines) + "\n"


def start_command(compat: str, into: Path, home: str | Path | None) -> str:
    """The command that starts the server: in the folder where towline.toml is, on the store that was migrated into."""
    place = "" if into.absolute() == Path.cwd() else f"cd {shlex.quote(str(into))} && "
    store = f" --home {shlex.quote(str(Path(home).absolute()))}" if home else ""
    return f"{place}towline serve --compat {compat}{store}"


def page(done: Migration) -> str:
    """MIGRATION.md."""
    plan = done.plan
    parts = [
        f"# From {plan.server} to Towline",
        f"Written by `towline migrate`. Start the server that takes the place of {plan.server}:",
        f"```console\n$ {done.command}\n```",
        "Clients need no change: ports and routes are the old ones, unless a row below says otherwise.",
        "## Models",
        *(_model(one) for one in done.models),
        "## Settings",
        "In `towline.toml`:\n\n" + _table(("setting", "value"), ((f"`{name}`", f"`{value}`") for name, value in plan.settings.items())),
    ]
    if plan.rows:
        rows = ((f"`{row.old}`", row.value, row.ours and f"`{row.ours}`", row.why) for row in plan.rows)
        parts.append("## Every old flag and field\n\n" + _table(("old", "value", "here", "why"), rows))
    return "\n\n".join(parts) + "\n"


def _model(one: ModelOutcome) -> str:
    model = one.model
    parts = [f"### {_safe(model.name)}"]
    if model.problem:
        parts.append(f"**Not imported.** {_safe(model.problem)} {_safe(model.hint)}".rstrip())
    if one.versions:
        parts.append(_table(("version", "there", "from", "state"), (_version(version) for version in one.versions)))
    parts += [
        f"- {version.planned.number}: {_safe(version.error)} {_safe(version.hint)}".rstrip() for version in one.versions if version.error
    ]
    if one.deployment is not None:
        parts.append(f"Served: {_safe(_served(one))}.")
    parts += [f"- {_safe(note)}" for note in model.notes]
    return "\n\n".join(parts)


def _version(one: VersionOutcome) -> tuple[str, ...]:
    number = str(one.stored or one.planned.number)
    source = f"{one.planned.source}" + (f" ({one.planned.inside})" if one.planned.inside else "")
    return number, one.planned.old, f"`{source}`", _MARKS[one.state]


def _served(one: ModelOutcome) -> str:
    assert one.deployment is not None
    limits = {name: value for name, value in dataclasses.asdict(one.deployment.limits).items() if value}
    words = [f"versions {one.deployment.policy}"]
    words += [f"label {label} is {number}" for label, number in sorted(one.deployment.labels.items())]
    words += [f"{name} {value:g}" for name, value in limits.items()]
    return ", ".join(words)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = tuple(heads)
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(map(_cell, row)) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(text: str) -> str:
    return _safe(text).replace("|", "\\|") or " "


def _safe(text: str) -> str:
    """What came out of somebody's files, on one line and without markup of its own."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain.replace("<", "&lt;")
