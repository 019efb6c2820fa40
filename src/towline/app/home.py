"""Find the settings, the home folder and the store that a verb works on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.core.config import FILE_NAME, Loaded, home_folder, load_settings
from towline.core.errors import UsageError

if TYPE_CHECKING:
    from towline.core.store import Store


def settings_file(environ: Mapping[str, str], folder: Path) -> Path:
    """The file TOWLINE_CONFIG names, which must exist, else towline.toml in `folder`, which need not."""
    named = environ.get("TOWLINE_CONFIG")
    if not named:
        return folder / FILE_NAME
    if not Path(named).is_file():
        raise UsageError(f"TOWLINE_CONFIG names {named}, which is not a file.", hint="Write the file, or unset TOWLINE_CONFIG.")
    return Path(named)


def find_settings(flags: Mapping[str, Any] | None = None) -> Loaded:
    """The settings of this process: defaults < towline.toml < TOWLINE_* < `flags`. Raises UsageError."""
    return load_settings(flags or {}, os.environ, settings_file(os.environ, Path.cwd()))


def find_home(home: str | Path | None = None) -> Path:
    """The folder of the store: `home` when given, else what the settings say."""
    loaded = find_settings({"home": str(home) if home else None})
    return home_folder(loaded.settings, os.environ)


@contextmanager
def opened_store(home: str | Path | None = None, *, read_only: bool = False) -> Iterator[Store]:
    """The store of `home`, closed at exit."""
    from towline.store.sqlite import open_store

    store = open_store(find_home(home), read_only=read_only)
    try:
        yield store
    finally:
        store.close()


def actor() -> str:
    """Who a change is recorded for: the login name, else the number of the user."""
    return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid {os.getuid()}"
