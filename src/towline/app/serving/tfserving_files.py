"""The files TF Serving is started with: which models to watch, and under which limits; read again when asked to."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.app.serving.watching import Watched
from towline.core.clock import Clock
from towline.core.deployment import Limits, Policy
from towline.core.errors import TowlineError, UsageError

if TYPE_CHECKING:
    from towline.convert.tfserving_config import ConfiguredModel

log = logging.getLogger("towline.controller")


class ConfiguredFolders:
    """What `wish` names: a model configuration file or one model, and batching parameters. `wish` is that of the controller.

    `folders` are those to watch now. Every base path that was ever configured is in `paths`: a client that replaces the configuration
    may name these, and no others.
    """

    def __init__(self, wish: Mapping[str, Any], clock: Clock) -> None:
        """Raises UsageError for a file that cannot be read."""
        self._file = Path(wish["config_file"]) if wish["config_file"] else None
        self._poll_s = float(wish["poll_s"])
        self._loose_labels = bool(wish["loose_labels"])
        self._clock = clock
        self._limits = self._read_limits(wish["batching_file"])
        self._text = self._read() if self._file is not None else ""
        self._next_s = clock.monotonic() + self._poll_s
        self.paths: set[str] = set()
        self.folders: dict[str, Watched] = {}
        if self._file is not None:
            self._take(self._parsed(self._text))
        elif wish["base_path"]:
            from towline.convert.tfserving_config import configured_model

            self._take((configured_model(wish["model_name"], wish["base_path"]),))

    def poll(self) -> bool:
        """Look at the file again when it is time; True when `folders` are others now. A bad file is told, and the old one goes on."""
        now_s = self._clock.monotonic()
        if self._file is None or not self._poll_s or now_s < self._next_s:
            return False
        self._next_s = now_s + self._poll_s
        try:
            text = self._read()
            if text == self._text:
                return False
            self._text = text
            self._take(self._parsed(text))
        except TowlineError as error:
            log.error("the model configuration is left as it was: %s", error)
            return False
        log.info("the model configuration was read again: %s", ", ".join(self.folders) or "no models")
        return True

    def replace(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """Watch these folders from now on: what a client asked for, in the words of its message."""
        self.folders = {
            name: self._watched(
                name,
                str(model["base_path"]),
                Policy(model["policy"], count=int(model["count"]), numbers=tuple(model["numbers"])),
                model["labels"],
            )
            for name, model in models.items()
        }

    def _take(self, models: tuple[ConfiguredModel, ...]) -> None:
        self.folders = {model.name: self._watched(model.name, model.base_path, model.policy, model.labels) for model in models}
        self.paths |= {model.base_path for model in models}

    def _watched(self, name: str, base_path: str, policy: Policy, labels: Mapping[str, int]) -> Watched:
        return Watched(name, Path(base_path), policy, dict(labels), self._limits, self._loose_labels)

    def _parsed(self, text: str) -> tuple[ConfiguredModel, ...]:
        # protobuf is imported by servers that are started with such files alone.
        from towline.convert.tfserving_config import read_model_config

        return read_model_config(text)

    def _read(self) -> str:
        assert self._file is not None
        return _text(self._file, "--model_config_file")

    @staticmethod
    def _read_limits(file: str | None) -> Limits:
        if not file:
            return Limits()
        from towline.convert.tfserving_config import read_batching

        batching = read_batching(_text(Path(file), "--batching_parameters_file"))
        for note in batching.notes:
            log.info("not needed of the batching parameters: %s", note)
        return batching.limits


def _text(file: Path, flag: str) -> str:
    from towline.convert.tfserving_config import MAX_FILE_BYTES

    try:
        with file.open("rb") as opened:
            # One more than is taken: what is longer is refused by its length.
            return opened.read(MAX_FILE_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{flag} {file} cannot be read: {reason}.", hint="Check the path.") from None
