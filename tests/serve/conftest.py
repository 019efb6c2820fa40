"""Stores that have models already. Its being here puts this folder on the import path: tests below import `plane` and `bad_inputs`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from towline.app.importing.model import import_model
from towline.testing import tiny_models


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`imported(m=model, n=(first, second))` is a home with these versions, a copy of one into which they were imported once."""
    stored: dict[tuple[tuple[str, bytes | tuple[bytes, ...]], ...], Path] = {}

    def home(**models: bytes | tuple[bytes, ...]) -> Path:
        wanted = tuple(models.items())
        if wanted not in stored:
            folder = stored[wanted] = tmp_path_factory.mktemp("imported")
            for name, versions in wanted:
                for model in (versions,) if isinstance(versions, bytes) else versions:
                    import_model(tiny_models.write(folder, model, f"{name}.onnx"), home=folder / "home")
        return Path(shutil.copytree(stored[wanted] / "home", tmp_path_factory.mktemp("copied") / "home"))

    return home
