"""The page at /docs, opened in Node with its scripts running, against a real server."""

from __future__ import annotations

from typing import Any

import node_clients
import pytest

from towline.testing import tiny_models
from towline.testing.server import RunningServer

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Any:
    node_clients.install()
    folder = tmp_path_factory.mktemp("docs")
    with RunningServer(tiny_models.write(folder, tiny_models.identity(), "m.onnx")) as server:
        return node_clients.run("docs_page.mjs", server.url)


def test_it_lists_what_is_served(seen: Any) -> None:
    assert seen["titles"] == ["m", "v2", "health"]
    assert "POST /models/m/predictAsk m in the plainest form" in seen["summaries"]
    assert seen["faults"] == []


def test_it_sends_the_example_and_shows_the_answer_and_the_command(seen: Any) -> None:
    assert seen["example"] == {"input": [[0, 0]]}
    assert seen["answer"].startswith("curl http://127.0.0.1:")
    assert "/models/m/predict -H 'Content-Type: application/json' -d '" in seen["answer"]
    assert '200 OK\n{"output":[[0.0,0.0]]}' in seen["answer"]


def test_a_name_is_shown_as_text_and_never_as_markup(seen: Any) -> None:
    assert (seen["images"], seen["shown"]) == (0, True)


def test_it_says_that_a_key_is_asked_for(seen: Any) -> None:
    assert "asks for a key" in seen["locked"]
