"""A real server with gRPC, and a channel to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from bad_inputs import MAX_BATCH, MAX_REQUEST_BYTES, MODELS
from stubs import Ask, method

from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="session", params=["aio", "native"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two gRPC servers: what is asked of one is asked of both."""
    found: str = request.param
    return found


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for both servers, which serve one after the other: the models are imported once."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="session")
def server(kind: str, store: Path) -> Iterator[RunningServer]:
    """Serves `mlp`, two of the models of bad_inputs.py with its limits, and `loop`, which runs until nobody wants it any more."""
    models = {"mlp": tiny_models.mlp(), "m": MODELS["m"], "text": MODELS["text"], "loop": tiny_models.counted_loop()}
    home, settings = store / "home", {"max_batch": MAX_BATCH, "max_request_bytes": MAX_REQUEST_BYTES, "grpc_server": kind}
    # No run ends by a limit of the server's own: what does is the client's doing.
    settings["request_timeout_s"] = 3600
    sources: list[str | Path] = list(models)
    if not home.exists():
        sources = [tiny_models.write(store, model, f"{name}.onnx") for name, model in models.items()]
    with RunningServer(*sources, home=home, settings=settings) as running:
        yield running


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address, options=[("grpc.max_metadata_size", 1 << 20)]) as channel:
        yield channel


@pytest.fixture
def infer(channel: grpc.Channel) -> Ask:
    return method(channel, "inference.GRPCInferenceService/ModelInfer", "inference.ModelInferResponse")
