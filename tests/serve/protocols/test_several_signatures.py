"""A version with several signatures: each request runs the one it names, and requests of two never share a batch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

import towline
from towline.core.manifest import Signature, encode_manifest
from towline.core.refs import parse_ref
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    home = tmp_path_factory.mktemp("signatures")
    towline.import_model(tiny_models.write(home, tiny_models.sum_and_product()), name="both", home=home)
    store = open_store(home)
    version = store.version(parse_ref("both"))
    whole = version.manifest.signature
    only = {spec.name: Signature(whole.inputs, (spec,)) for spec in whole.outputs}
    manifest = msgspec.structs.replace(version.manifest, signatures={"serving_default": whole, **only})
    with store.stage() as staged:
        shutil.copytree(version.path, staged, dirs_exist_ok=True)
        (staged / "manifest.json").write_bytes(encode_manifest(manifest))
        store.publish(staged, "calculator", actor="test")
    store.close()
    with RunningServer("calculator", home=home) as running:
        yield running


def ask(server: RunningServer, signature: str, *rows: list[float]) -> object:
    body = {"instances": rows} | ({"signature_name": signature} if signature else {})
    status, answer = server.post("/v1/models/calculator:predict", json.dumps(body).encode())
    assert status == 200, answer
    return json.loads(answer)["predictions"]


def test_a_request_gets_the_outputs_of_the_signature_it_names(server: RunningServer) -> None:
    assert ask(server, "", [3, 4]) == [{"sum": [7.0], "product": [12.0]}]
    assert ask(server, "sum", [3, 4]) == [[7.0]]
    assert ask(server, "product", [3, 4], [5, 6]) == [[12.0], [30.0]]


def test_requests_of_two_signatures_at_once_are_not_mixed_up(server: RunningServer) -> None:
    def pair(index: int) -> bool:
        name, expected = ("sum", [[index + 2.0]]) if index % 2 else ("product", [[index * 2.0]])
        return ask(server, name, [index, 2]) == expected

    with ThreadPoolExecutor(8) as clients:
        assert all(clients.map(pair, range(200)))


def test_a_worker_is_told_the_signature_by_its_place_with_the_default_first(server: RunningServer, tmp_path: Path) -> None:
    store = open_store(server.home, read_only=True)
    manifest = store.version(parse_ref("calculator")).manifest
    store.close()

    assert manifest.signature_names == ("serving_default", "product", "sum")
