"""A real server, and one question to its /graphql."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from graphql_asking import GRAPHQL, JSON, Ask

from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    models = {
        "m": tiny_models.identity(),
        "text": tiny_models.identity("string", ("N",)),
        "whole": tiny_models.identity("int64", ("N",)),
        # As slow as it is asked to be, and quick to import.
        "slow": tiny_models.counted_loop(),
    }
    with RunningServer(*[tiny_models.write(folder, model, f"{name}.onnx") for name, model in models.items()]) as running:
        yield running


@pytest.fixture
def ask(server: RunningServer) -> Ask:
    def asked(query: str, accept: str = GRAPHQL, **variables: Any) -> tuple[int, Any]:
        body = {"query": query} | ({"variables": variables} if variables else {})
        status, raw = server.post("/graphql", json.dumps(body).encode(), {"content-type": JSON, "accept": accept})
        return status, json.loads(raw)

    return asked
