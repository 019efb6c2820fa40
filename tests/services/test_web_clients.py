"""The two clients that pages use for gRPC-Web, in Node, against a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import node_clients
import pytest
from google.protobuf import descriptor_pb2

from towline.serve.protocols.grpc.messages import MESSAGES
from towline.testing import tiny_models
from towline.testing.server import RunningServer

pytestmark = pytest.mark.services
INFER = {"id": "from-a-page", "y": [1, 2, 3, 4], "live": True}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    node_clients.install()
    folder = tmp_path_factory.mktemp("web")
    descriptors = _descriptors(folder)
    with RunningServer(tiny_models.write(folder, tiny_models.identity(), "m.onnx")) as server:
        return node_clients.run("web_client.mjs", server.url, str(descriptors))


def _descriptors(folder: Path) -> Path:
    """What a page's build would generate code from: the files that declare our messages."""
    found = descriptor_pb2.FileDescriptorSet()
    names = []

    def add(file: Any) -> None:
        for one in file.dependencies:
            add(one)
        if file.name not in names:
            names.append(file.name)
            found.file.add().ParseFromString(file.serialized_pb)

    for message in ("inference.ModelInferRequest", "grpc.health.v1.HealthCheckRequest"):
        add(MESSAGES[message].DESCRIPTOR.file)
    path = folder / "descriptors.bin"
    path.write_bytes(found.SerializeToString())
    return path


def test_connect_web_gets_answers_refusals_and_deadlines(seen: Any) -> None:
    assert seen["connect"] == INFER | {
        "refused": "NotFound",
        "words": "Request for unknown model: 'nope' is not found",
        "late": "DeadlineExceeded",
    }


@pytest.mark.parametrize("form", ["binary", "text"])
def test_grpc_web_gets_answers_and_refusals_in_both_forms(seen: Any, form: str) -> None:
    assert seen[form] == INFER | {"refused": 5, "words": "Request for unknown model: 'nope' is not found"}


def test_connect_web_watches_until_it_leaves_or_its_deadline_has_passed(seen: Any) -> None:
    assert seen["connectStreams"] == {"told": [1, 3], "left": "Canceled", "late": "DeadlineExceeded"}


@pytest.mark.parametrize("form", ["binary", "text"])
def test_grpc_web_takes_streams_in_both_forms_and_is_told_which_it_cannot_ask_for(seen: Any, form: str) -> None:
    watch, talk = seen[f"{form}Streams"]

    assert watch == {"told": [1], "code": 4, "words": "The deadline of the call has passed."}
    assert (talk["told"], talk["code"]) == ([], 12)
    assert "takes a stream of messages; gRPC-Web can send one" in talk["words"]
