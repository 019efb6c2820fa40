"""The contract of a store: versions, aliases, deployments and events, none ever lost once acknowledged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from towline.core.deployment import Deployment
from towline.core.event import Event
from towline.core.refs import Ref
from towline.core.version import Version


@dataclass(frozen=True)
class AliasMove:
    """One line of an alias's history. `number` is None when the alias was removed."""

    alias: str
    number: int | None
    actor: str
    why: str
    at_s: float


class Store(Protocol):
    """Every method either returns after its effect is on disk, or raises and leaves the state as it was.

    Two processes may use one store at once. A change that lost a race raises Conflict; nothing waits longer than a few seconds.
    """

    def stage(self) -> AbstractContextManager[Path]:
        """An empty folder on the store's own file system to build a version in; removed at exit if it was not published."""
        ...

    def aside(self, name: str) -> Path:
        """A folder, perhaps not there yet, for what is kept and is no version: `refused`, what shows why an import was refused; `optimize`,
        how far searches have come."""
        ...

    def publish(
        self, staged: Path, name: str, *, actor: str, why: str = "", data: dict[str, object] | None = None, number: int | None = None
    ) -> Version:
        """Seal a staged folder (it holds manifest.json) and give it the next number of `name`.

        A digest that `name` already has is not added twice: the existing version is returned. Records `version.imported`.
        With `number` it gets that one, as a watched folder names it; Conflict when another digest has it.
        """
        ...

    def version(self, ref: Ref) -> Version:
        """The version a ref points at; a bare name means its latest. NotFound says what there is instead."""
        ...

    def versions(self, name: str = "", *, limit: int = 100, before: tuple[str, int] | None = None) -> list[Version]:
        """Versions by name, newest number first. `before` is the (name, number) of the last one seen, for the next page."""
        ...

    def names(self) -> tuple[str, ...]:
        """Of all models that have a version, in order."""
        ...

    def numbers(self, name: str) -> tuple[int, ...]: ...

    def find_source(self, name: str, source_digest: str) -> Version | None:
        """The newest version of `name` that was made from this source, so that importing it again is no work."""
        ...

    def remove(self, ref: Ref, *, actor: str, why: str = "") -> Version:
        """Forget a version; its folder goes when no other name holds the digest. Conflict while an alias or deployment needs it."""
        ...

    def set_alias(self, name: str, alias: str, number: int | None, *, actor: str, why: str = "", expected: int | None = None) -> None:
        """Point an alias at a version (None removes it), atomically. With `expected`, only if it points there now; else Conflict."""
        ...

    def aliases(self, name: str = "") -> dict[str, dict[str, int]]:
        """{model: {alias: number}}, of one model or of all."""
        ...

    def alias_history(self, name: str) -> list[AliasMove]: ...

    def put_deployment(self, deployment: Deployment, *, actor: str, why: str = "") -> Deployment:
        """Replace the deployment of a name. Conflict unless `deployment.revision` is the stored one (0: there is none)."""
        ...

    def change_deployments(self, wished: Mapping[str, Deployment | None], *, actor: str, why: str = "") -> None:
        """Put or (None) remove several at once: all of it or nothing. What is so already is no change, whatever its revision."""
        ...

    def deployments(self) -> tuple[Deployment, ...]: ...

    def remove_deployment(self, name: str, *, actor: str, why: str = "") -> None: ...

    def append(self, event: Event) -> Event | None:
        """Add an event to the chain. None when its kind comes too often for its name: the count rides on the next one."""
        ...

    def events(self, *, name: str = "", kind: str = "", after: int = 0, limit: int = 100) -> list[Event]:
        """Newest last. `after` is an event number; 0 gives the newest `limit`."""
        ...

    def verify_events(self) -> Iterator[str]:
        """One sentence for each break in the chain; none when it is whole."""
        ...

    def change_token(self) -> int:
        """A number that changes whenever any process changed the store. Cheap enough to ask twice a second."""
        ...

    def close(self) -> None: ...
