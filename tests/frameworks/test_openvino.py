"""An ONNX version under OpenVINO: proven equal, measured beside itself, published if asked for, and served from OpenVINO's environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

import towline
from towline.app.importing.sealing import Order
from towline.app.tuning import engined, searching
from towline.app.tuning.engined import publish_under, under
from towline.app.tuning.tune import Aim, tune
from towline.convert.base import ConversionFailed
from towline.core.manifest import encode_manifest
from towline.core.refs import parse_ref
from towline.core.runtime import TUNED, Runtime
from towline.core.version import Version
from towline.optimize.runtime import Choice, Setting
from towline.serve.workers.local import LocalWorker
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks

X = np.random.default_rng(0).normal(size=(3, 10)).astype(np.float32)
CONTRACT = """
import os, sys
from pathlib import Path
import numpy as np
from towline.core.manifest import decode_manifest
from towline.engines.openvino import OpenVinoEngine
from towline.testing.engine_contract import check_engine

folder = Path(sys.argv[1])
manifest = decode_manifest((folder / "manifest.json").read_bytes())
check_engine(OpenVinoEngine(), folder, manifest, {"x": np.ones((3, 10), np.float32)})
described = OpenVinoEngine().describe(folder, manifest.model_file)
assert described == manifest.signature, described
assert not list(Path(os.environ["HOME"]).iterdir()), "it wrote into the home of its user"
"""


@pytest.fixture(scope="module")
def home(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("openvino")
    towline.import_model(tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"), home=folder / "home")
    return folder / "home"


@pytest.fixture(scope="module")
def version(home: Path) -> Version:
    with open_store(home) as store:
        return store.version(parse_ref("mlp:1"))


@pytest.fixture(scope="module")
def server(home: Path, version: Version) -> Iterator[RunningServer]:
    with open_store(home) as store:
        order = Order(store, "mlp", None, "tester", "", LocalWorker.start, lambda words: None)
        made = publish_under(version, "openvino", order, {}, ()).version
    assert (str(made), made.engine, made.manifest.parents) == ("mlp:2", "openvino", (version.digest,))
    with RunningServer("mlp:2", home=home, settings={"environments": os.environ["TOWLINE_ENVIRONMENTS"]}) as running:
        yield running


def test_the_engine_keeps_the_contract_in_its_own_environment_and_reports_to_nobody(
    version: Version, environments: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / version.manifest.model_file).write_bytes((version.path / version.manifest.model_file).read_bytes())
    (tmp_path / "manifest.json").write_bytes(encode_manifest(msgspec.structs.replace(version.manifest, engine="openvino")))
    lent = {**os.environ, "PYTHONPATH": str(Path(towline.__file__).parents[1]), "HOME": str(tmp_path / "home")}

    words = [environments / "openvino/bin/python", "-c", CONTRACT, tmp_path]
    ran = subprocess.run(words, env=lent, capture_output=True, text=True, timeout=300, check=False)

    assert ran.returncode == 0, ran.stderr


def test_a_published_version_answers_over_http_as_the_one_it_was_made_of(server: RunningServer, home: Path, environments: Path) -> None:
    status, raw = server.post("/v1/models/mlp:predict", json.dumps({"instances": X.tolist()}).encode())

    assert status == 200, raw
    np.testing.assert_allclose(json.loads(raw)["predictions"], towline.load("mlp:1", home=home).predict(X), rtol=1e-4, atol=1e-6)
    command = Path(f"/proc/{server.worker_pid('mlp')}/cmdline").read_text().split("\0")
    assert command[0] == str(environments / "openvino/bin/python")
    assert "openvino" not in sys.modules


def test_one_that_answers_otherwise_is_not_taken(version: Version, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = engined._drafted

    def another(of: Version, engine: str, into: Path):  # type: ignore[no-untyped-def]
        made = whole(of, engine, into)
        (into / made.manifest.model_file).write_bytes(tiny_models.mlp(seed=1))
        return made

    monkeypatch.setattr(engined, "_drafted", another)

    with pytest.raises(ConversionFailed, match="does not answer as it did"):
        under(version, "openvino", tmp_path, lambda words: None)


def test_it_is_measured_beside_the_version_and_published_if_it_is_best(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is best a clock decides; here it counts as best."""
    best = Setting(Runtime(threads=2, runs=1, instances=1), "openvino")
    monkeypatch.setattr(searching, "choice", lambda *given: Choice(best, "It was made so.", 2.0))

    found = tune("mlp:1", aim=Aim(clients=(2,), budget_s=2.0, engines=("openvino",)), publish=True, home=home)

    assert found.refused == ()
    assert found.published is not None
    with open_store(home) as store:
        event = store.events(kind=TUNED)[-2]
        assert store.version(parse_ref(str(found.published))).engine == "openvino"
    assert (event.digest, event.data["use"]) == (found.published.digest, {"threads": 2, "runs": 1, "instances": 1})
    assert found.use == Runtime()
