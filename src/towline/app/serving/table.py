"""The table of what to serve, as the front was told it last; told again when it would be another one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from towline.app.serving.desired import desired_models
from towline.core.deployment import Deployment
from towline.core.store import Store

# Deployments that are tried before they are written down; None in it is one that is tried to do without.
Trial = Mapping[str, Deployment | None] | None


class Table:
    """`send` is to the supervisor, which keeps the last table for a new front."""

    def __init__(self, store: Store, send: Callable[[dict[str, Any]], None]) -> None:
        self._store = store
        self._send = send
        # What was told last, the trial in it, and the whole state of affairs it followed from.
        self._sent: dict[str, Any] | None = None
        self._trial: Trial = None
        self._seen: Any = None

    def publish(self, names: Collection[str] | None, trial: Trial, *, is_complete: bool) -> None:
        """Tell the front what to serve of `names`, None for all that is deployed, when the store changed and the answer is another one."""
        seen = self._store.change_token(), names and frozenset(names), is_complete, trial
        if seen == self._seen:
            return
        models = desired_models(self._store, names, trial)
        stored = list(self._store.names())
        table = {"to": "front", "do": "table", "models": models, "stored": stored, "complete": is_complete}
        if table != self._sent:
            self._send(table)
            self._sent = table
        self._seen, self._trial = seen, trial

    def asked_with(self, trial: Trial) -> list[dict[str, Any]] | None:
        """The models of the last table; None when it was made with another trial, or the front has none."""
        if self._sent is None or self._seen is None or self._trial != trial:
            return None
        models: list[dict[str, Any]] = self._sent["models"]
        return models

    def forget(self) -> None:
        self._seen, self._sent = None, None
