"""`towline tune` as a shell sees it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Run

import towline as package
from towline.testing import tiny_models


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    package.import_model(tiny_models.write(folder, tiny_models.mlp(), "m.onnx"), home=folder / "home")
    return folder


def test_what_was_measured_is_printed_and_its_json_keeps_the_schema(place: Path, towline: Run):
    common = ("tune", "m", "--home", str(place / "home"), "--clients", "1", "--budget", "0.1s")

    told, as_json = towline(*common), towline(*common, "--json", "--for", "latency", "--max-p99", "500")

    assert told.code == 0
    assert told.out.splitlines()[0].split() == ["setting", "clients", "rows/s", "p50", "ms", "p99", "ms", "CPU", "us", "MiB", "turns"]
    assert "as the server decides" in told.out
    assert "m:1 goes on as the server decides." in told.out
    assert (as_json.json()["objective"], as_json.json()["use"]) == ("latency", {})


@pytest.mark.parametrize("clients", ["0", "1,,2", "a", "5000", "1,2,3,4,5,6,7,8,9", "-1", "1.5"])
def test_clients_are_a_few_whole_numbers(clients: str, place: Path, towline: Run):
    told = towline("tune", "m", "--home", str(place / "home"), "--clients", clients)

    assert told.code == 2
    assert "not written like 8 or 1,8,32" in told.err
