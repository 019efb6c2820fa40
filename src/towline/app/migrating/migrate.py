"""`towline migrate`: import what another server serves, deploy it as it was, and write the settings and the page that say so."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from towline.app.home import actor, opened_store
from towline.app.importing.model import import_into
from towline.app.importing.sealing import ImportResult
from towline.app.migrating.outcome import Migration, ModelOutcome, VersionOutcome
from towline.app.migrating.page import SETTINGS_HEAD, page, settings_text, start_command
from towline.convert.migrate.plan import Plan, PlannedModel, PlannedVersion
from towline.core.config import FILE_NAME
from towline.core.deployment import Deployment, Policy
from towline.core.errors import Conflict, TowlineError, UsageError
from towline.core.refs import Ref
from towline.core.store import Store

PAGE_NAME = "MIGRATION.md"
# Words for a converter, where there is one.
_FOREIGN = ("arch", "input", "inputs", "outputs")
Progress = Callable[[str], None]


def migrate(
    plan: Plan, *, into: Path, home: str | Path | None = None, dry_run: bool = False, progress: Progress | None = None
) -> Migration:
    """Carry out `plan`: towline.toml and MIGRATION.md go to the folder `into`, versions and deployments to the store of `home`.

    Each version that is imported stays, whatever becomes of the others; running it again imports only what is not there yet.
    Raises UsageError for a folder that cannot be written, Conflict for a towline.toml that somebody else wrote.
    """
    say = progress or (lambda sentence: None)
    command = start_command(plan.compat, into, home)
    if dry_run:
        planned = tuple(ModelOutcome(model, tuple(VersionOutcome(one, "planned") for one in model.versions)) for model in plan.models)
        return Migration(plan, planned, command)
    _check_target(into)
    with opened_store(home) as store:
        models = tuple(_moved(store, model, plan.server, say) for model in plan.models)
    done = Migration(plan, models, command, (into / FILE_NAME, into / PAGE_NAME))
    for file, text in zip(done.files, (settings_text(plan), page(done)), strict=True):
        _write(file, text)
    return done


def _moved(store: Store, model: PlannedModel, server: str, say: Progress) -> ModelOutcome:
    if model.problem:
        say(f"{model.name}: {model.problem}")
        return ModelOutcome(model)
    versions = tuple(_imported(store, model, version, server, say) for version in model.versions)
    stored = {one.planned.number: one.stored for one in versions if one.state != "failed"}
    if not stored or not model.is_served:
        return ModelOutcome(model, versions)
    deployment = _deployment(model, stored)
    store.change_deployments({model.name: deployment}, actor=actor(), why=f"migrated from {server}")
    return ModelOutcome(model, versions, deployment)


def _imported(store: Store, model: PlannedModel, version: PlannedVersion, server: str, say: Progress) -> VersionOutcome:
    say(f"{model.name}:{version.number}  {version.source}")
    try:
        result = _import(store, model.name, version, f"migrated from {server}", say)
        if version.check is not None:
            _check(store, result, version)
    except (TowlineError, OSError) as error:
        message, hint = (error.message, error.hint) if isinstance(error, TowlineError) else (str(error), "")
        say(f"{model.name}:{version.number} was not imported: {message}")
        return VersionOutcome(version, "failed", error=message, hint=hint)
    found = result.version
    return VersionOutcome(version, "existed" if result.existed else "imported", found.number, found.digest)


def _import(store: Store, name: str, version: PlannedVersion, why: str, say: Progress) -> ImportResult:
    from towline.serve.workers.local import LocalWorker

    with tempfile.TemporaryDirectory(prefix="towline-migrate-") as temporary:
        source, given = version.source, dict(version.given)
        if version.inside:
            from towline.convert.migrate.mar import unpack

            source, given = unpack(version.source, version.inside, given, Path(temporary))
        result, worker = import_into(
            store,
            source,
            name=name,
            number=version.number,
            labels=Path(given["labels"]) if "labels" in given else None,
            preset=given.get("preset", ""),
            options={word: given[word] for word in _FOREIGN if word in given},
            actor=actor(),
            message=why,
            start_worker=LocalWorker.start,
            progress=lambda sentence: say(f"  {sentence}"),
        )
    if worker is not None:
        worker.close()
    return result


def _check(store: Store, result: ImportResult, version: PlannedVersion) -> None:
    """Whether the tensors that its configuration declares are the model's; a version just imported that has others goes again."""
    assert version.check is not None
    try:
        version.check.check(result.version.manifest)
    except TowlineError:
        if not result.existed:
            store.remove(Ref(result.version.name, number=result.version.number), actor=actor(), why="its configuration is of another model")
        raise


def _deployment(model: PlannedModel, stored: Mapping[int, int]) -> Deployment:
    """The old policy and labels, of what is there. Two versions of the same content are stored once, under the first one's number."""
    policy = model.policy
    if policy.kind == "specific" or any(number != at for number, at in stored.items()):
        chosen = set(policy.numbers) or set(stored)
        policy = Policy("specific", numbers=tuple(sorted({at for number, at in stored.items() if number in chosen})))
    labels = {label: stored[number] for label, number in model.labels.items() if number in stored}
    return Deployment(model.name, policy, labels, model.limits)


def _check_target(into: Path) -> None:
    """Before anything is imported: whether the two files may be written."""
    try:
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=into):
            pass
        settings = into / FILE_NAME
        is_ours = not settings.exists() or settings.read_text(encoding="utf-8").startswith(SETTINGS_HEAD)
    except (OSError, UnicodeDecodeError) as error:
        reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "its towline.toml is no text"
        raise UsageError(f"{into} cannot be written: {reason}.", hint="Name another folder: --into DIR") from None
    if not is_ours:
        raise Conflict(
            f"{settings} is there already, and 'towline migrate' did not write it.",
            code="SETTINGS_EXIST",
            hint="Name another folder: --into DIR",
        )


def _write(file: Path, text: str) -> None:
    """Whole or not at all: what was there before stays until the new one is on disk."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as target:
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.chmod(name, 0o644)
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise
