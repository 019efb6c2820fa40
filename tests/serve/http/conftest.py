"""Servers that the tests of the HTTP layer talk to: one as started, one that loses patience soon."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bad_inputs import MAX_BATCH, MAX_REQUEST_BYTES, MODELS

from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serves the models of bad_inputs.py with its limits, and `slow`, which takes about a fifth of a second."""
    folder = tmp_path_factory.mktemp("models")
    files = [tiny_models.write(folder, model, f"{name}.onnx") for name, model in MODELS.items()]
    files.append(tiny_models.write(folder, tiny_models.slow(rounds=20_000, width=8), "slow.onnx"))
    with RunningServer(*files, settings={"max_batch": MAX_BATCH, "max_request_bytes": MAX_REQUEST_BYTES}) as running:
        yield running


@pytest.fixture(scope="session")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serves `m` to at most 40 connections, and waits three seconds at most for anything."""
    settings = {
        "header_timeout_s": 3,
        "idle_timeout_s": 3,
        "write_timeout_s": 3,
        "min_body_bytes_per_s": 1024,
        "max_connections": 40,
        "max_header_bytes": 4096,
    }
    model = tiny_models.write(tmp_path_factory.mktemp("models"), MODELS["m"], "m.onnx")
    with RunningServer(model, settings=settings) as running:
        yield running
