"""The store on one machine: a folder of versions, and SQLite for everything that is said about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from towline.core.clock import Clock, SystemClock
from towline.core.deployment import Deployment
from towline.core.errors import Conflict, NotFound
from towline.core.event import Event
from towline.core.refs import Ref, check_alias, check_model_name, clip
from towline.core.store import AliasMove
from towline.core.version import Version
from towline.store import deployments, events, inspection, opening, recovery, versions
from towline.store.database import Database
from towline.store.disk import Disk
from towline.store.errors import StoreError, named_faults
from towline.store.files import Files


def open_store(home: Path, *, clock: Clock | None = None, read_only: bool = False, disk: Disk | None = None) -> SqliteStore:
    """Open the store in `home`, making it if there is none; whatever a killed process left half-done is cleaned up first.

    `read_only` changes nothing on disk, cleans nothing and shows a store that does not exist as an empty one.
    Raises StoreError when the store cannot be used, Conflict when another process holds it for seconds.
    """
    disk = disk or Disk()
    files = Files(home.absolute(), disk)
    with named_faults():
        database = opening.open_for_reading(files, disk) if read_only else opening.open_for_writing(files, disk)
    store = SqliteStore(database, files, clock or SystemClock())
    if not read_only:
        store.sweep()
    return store


class SqliteStore:
    """Implements towline.core.store.Store. Any thread of the process that opened it may use it."""

    def __init__(self, database: Database, files: Files, clock: Clock) -> None:
        self._db = database
        self._files = files
        self._clock = clock

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Versions

    @contextmanager
    def stage(self) -> Iterator[Path]:
        self._db.check_writable()
        try:
            with self._files.stage() as folder:
                yield folder
        finally:
            # A publish that failed half-way is undone now, not at the next start: a full disk needs its space back.
            self._finish_if_possible()

    def aside(self, name: str) -> Path:
        return self._files.home / name

    def publish(
        self, staged: Path, name: str, *, actor: str, why: str = "", data: dict[str, object] | None = None, number: int | None = None
    ) -> Version:
        check_model_name(name)
        versions.check_number(number)
        self._files.check_staged(staged)
        # Refused now, not when the folder has been moved.
        events.plain(Event("version.imported", actor, 0.0, name, "", why, data or {}))
        with self._db.read():
            versions.check_case(self._db, name)
        with named_faults():
            sealed = self._files.seal(staged)
            # Reading a large folder takes long, so it is done before the lock is held.
            condition = self._files.condition(sealed.digest)
        with self._db.write():
            recovery.begin(self._db, sealed.digest, staging=staged.name)
        with self._db.write():
            versions.check_case(self._db, name)
            replaced = None
            # Missing before and there now: another process has just put it there, whole.
            if condition == "damaged" or not self._files.version_folder(sealed.digest).is_dir():
                replaced = self._files.place(staged, sealed.digest)
            version = versions.with_digest(self._db, self._files, name, sealed.digest)
            if version is None:
                version = versions.add(self._db, self._files, name, sealed, self._clock.time(), number)
                self._record("version.imported", actor, version, why, {**(data or {}), "number": version.number})
            elif condition == "damaged":
                self._record("version.repaired", actor, version, why, {"number": version.number})
            recovery.settle(self._db, sealed.digest, staging=staged.name)
        self._files.remove(replaced)
        return version

    def version(self, ref: Ref) -> Version:
        with self._db.read():
            return versions.resolve(self._db, self._files, ref)

    def versions(self, name: str = "", *, limit: int = 100, before: tuple[str, int] | None = None) -> list[Version]:
        with self._db.read():
            return versions.page(self._db, self._files, name, limit, before)

    def numbers(self, name: str) -> tuple[int, ...]:
        """Ascending; empty when there is no such model."""
        with self._db.read():
            return versions.numbers(self._db, name)

    def find_source(self, name: str, source_digest: str) -> Version | None:
        with self._db.read():
            found = versions.with_source(self._db, self._files, name, source_digest)
        # A version whose files are gone must be imported again, which brings them back.
        return found if found and (found.path / "manifest.json").is_file() else None

    def remove(self, ref: Ref, *, actor: str, why: str = "") -> Version:
        with self._db.write():
            version = versions.resolve(self._db, self._files, ref)
            holders = versions.holders(self._db, version.digest)
            if ref.digest and len(holders) > 1:
                raise Conflict(f"{', '.join(holders)} all have this digest.", code="AMBIGUOUS", hint="Remove them by name and number.")
            self._refuse_if_needed(version)
            versions.delete(self._db, version)
            self._record("version.removed", actor, version, why, {"number": version.number, "size_bytes": version.size_bytes})
            if len(holders) == 1:
                recovery.begin(self._db, version.digest, staging="")
        # From here on the version is gone for good, whatever becomes of its folder.
        self._finish_if_possible()
        return version

    # Aliases

    def set_alias(self, name: str, alias: str, number: int | None, *, actor: str, why: str = "", expected: int | None = None) -> None:
        check_model_name(name)
        check_alias(alias)
        with self._db.write():
            current = deployments.aliases(self._db, name).get(name, {}).get(alias)
            if expected is not None and current != expected:
                found = f"version {current}" if current else "nothing"
                raise Conflict(f"{name}@{alias} points at {found}, not at version {expected}: it was moved meanwhile.", code="ALIAS_MOVED")
            ref = Ref(name, alias=alias) if number is None else Ref(name, number=number)
            version = versions.resolve(self._db, self._files, ref)
            if number == current:
                return
            if number is None:
                self._refuse_if_followed(name, alias)
            move = AliasMove(alias, number, actor, why, self._clock.time())
            deployments.move_alias(self._db, name, move)
            self._record("alias.moved", actor, version, why, {"alias": alias, "number": number, "previous": current})

    def aliases(self, name: str = "") -> dict[str, dict[str, int]]:
        with self._db.read():
            return deployments.aliases(self._db, name)

    def alias_history(self, name: str) -> list[AliasMove]:
        """Newest last; it outlives the versions it names."""
        with self._db.read():
            return deployments.alias_moves(self._db, name)

    # Deployments

    def names(self) -> tuple[str, ...]:
        with self._db.read():
            return versions.names(self._db)

    def change_deployments(self, wished: Mapping[str, Deployment | None], *, actor: str, why: str = "") -> None:
        with self._db.write():
            for name, deployment in wished.items():
                self._change_deployment(check_model_name(name), deployment, actor, why)

    def _change_deployment(self, name: str, deployment: Deployment | None, actor: str, why: str) -> None:
        stored = deployments.deployment(self._db, name)
        revision = stored.revision if stored else 0
        told: dict[str, object]
        if deployment is None:
            if stored is not None:
                deployments.forget(self._db, name)
                told = {"revision": revision}
                events.record(self._db, Event("deployment.removed", actor, self._clock.time(), name, "", why, told))
            return
        versions.check_case(self._db, name)
        saved = replace(deployment, revision=revision)
        if saved != stored:
            saved = replace(saved, revision=revision + 1)
            deployments.save(self._db, saved)
            told = {"deployment": deployments.as_data(saved)}
            events.record(self._db, Event("deployment.changed", actor, self._clock.time(), name, "", why, told))

    def put_deployment(self, deployment: Deployment, *, actor: str, why: str = "") -> Deployment:
        check_model_name(deployment.name)
        with self._db.write():
            versions.check_case(self._db, deployment.name)
            stored = deployments.deployment(self._db, deployment.name)
            revision = stored.revision if stored else 0
            if deployment.revision != revision:
                raise Conflict(
                    f"The deployment '{deployment.name}' is at revision {revision}, not {deployment.revision}: it was changed meanwhile.",
                    code="DEPLOYMENT_CHANGED",
                    hint="Read it again and decide again.",
                )
            saved = replace(deployment, revision=revision + 1)
            deployments.save(self._db, saved)
            told = {"deployment": deployments.as_data(saved)}
            events.record(self._db, Event("deployment.changed", actor, self._clock.time(), saved.name, "", why, told))
            return saved

    def deployments(self) -> tuple[Deployment, ...]:
        """By name."""
        with self._db.read():
            return deployments.deployments(self._db)

    def remove_deployment(self, name: str, *, actor: str, why: str = "") -> None:
        with self._db.write():
            stored = deployments.deployment(self._db, name)
            if stored is None:
                there = ", ".join(deployment.name for deployment in deployments.deployments(self._db)[:10]) or "none"
                raise NotFound(f"There is no deployment '{clip(name)}'. There is: {there}.", code="DEPLOYMENT_NOT_FOUND")
            deployments.forget(self._db, name)
            told: dict[str, object] = {"revision": stored.revision}
            events.record(self._db, Event("deployment.removed", actor, self._clock.time(), name, "", why, told))

    # Events

    def append(self, event: Event) -> Event | None:
        """Add an event to the chain: at most 20 of one kind about one name in 60 s, the rest counted in `suppressed` of the next."""
        with self._db.write():
            return events.record_bounded(self._db, event, self._clock.monotonic())

    def events(self, *, name: str = "", kind: str = "", after: int = 0, limit: int = 100) -> list[Event]:
        with self._db.read():
            return events.newest(self._db, name=name, kind=kind, after=after, limit=limit)

    def verify_events(self) -> Iterator[str]:
        return events.breaks(self._db)

    # The store itself

    def check(self, *, deep: bool = False) -> Iterator[str]:
        """One sentence for each thing that is not as it should be. `deep` reads every byte of every version."""
        return inspection.findings(self._db, self._files, deep=deep)

    def change_token(self) -> int:
        return self._db.change_token()

    def sweep(self) -> None:
        """Clear what processes that ended left behind; done at every opening for writing."""
        with named_faults():
            self._files.sweep_staging()
        recovery.finish(self._db, self._files)

    def close(self) -> None:
        self._db.close()

    def _record(self, kind: str, actor: str, version: Version, why: str, told: dict[str, object]) -> None:
        events.record(self._db, Event(kind, actor, self._clock.time(), version.name, version.digest, why, told))

    def _refuse_if_needed(self, version: Version) -> None:
        existing = versions.numbers(self._db, version.name)
        aliases = deployments.aliases(self._db, version.name).get(version.name, {})
        deployed = deployments.deployment(self._db, version.name)
        needed = deployments.needed_by(version.name, version.number, existing, aliases, deployed)
        if needed:
            raise Conflict(f"{version} cannot be removed: {needed}.", code="VERSION_NEEDED", hint="Point that elsewhere first.")

    def _refuse_if_followed(self, name: str, alias: str) -> None:
        deployed = deployments.deployment(self._db, name)
        if deployed and deployed.policy.kind == "alias" and deployed.policy.alias == alias:
            raise Conflict(f"{name}@{alias} cannot be removed: the deployment '{name}' serves what it points at.", code="ALIAS_NEEDED")

    def _finish_if_possible(self) -> None:
        try:
            recovery.finish(self._db, self._files)
        except (StoreError, Conflict):
            # The change itself is done or undone; the folder waits for the next opening.
            return
