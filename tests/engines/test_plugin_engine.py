"""A stranger's engine comes in by the same door as ours: an entry point of group `towline.engines`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from towline.core.errors import EngineError, VersionError
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.serve.workers.local import LocalWorker

PLUGIN = """
import numpy as np
from towline.core.errors import EngineError, VersionError


class Session:
    def __init__(self, factor):
        self.factor = factor

    def run(self, inputs, *, slot=0):
        if "x" not in inputs:
            raise EngineError("No x was given.")
        return [inputs["x"] * self.factor]

    def terminate(self, slot):
        pass


class TimesEngine:
    name = "times"

    def load(self, folder, manifest, options):
        if options.device != "cpu":
            raise VersionError(f"There is no {options.device} here.")
        try:
            return Session(np.float32((folder / manifest.model_file).read_text()))
        except (OSError, ValueError) as error:
            raise VersionError("The factor cannot be read.") from error

    def describe(self, folder, model_file):
        raise NotImplementedError

    def devices(self):
        return ("cpu",)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as pip would leave it, on the path of the worker's Python."""
    site = tmp_path / "site"
    metadata = site / "times_engine-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "times_engine.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: times-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[towline.engines]\ntimes = times_engine:TimesEngine\n")
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    return site


def version(folder: Path, engine: str) -> Manifest:
    (folder / "factor.txt").write_text("2.5")
    x = TensorSpec("x", "float32", ("N",))
    signature = Signature((x,), (TensorSpec("y", "float32", ("N",)),))
    measured = Measured("any", True, 0, 0, 256)
    origin, facts = Origin("text", "sha256:0"), Facts(0, {}, {})
    return Manifest(1, engine, "factor.txt", {"serving_default": signature}, True, origin, facts, measured)


def test_a_strangers_engine_runs_in_a_worker_of_its_own(plugin: Path, tmp_path: Path) -> None:
    with LocalWorker.start(tmp_path, version(tmp_path, "times")) as worker:
        answer = worker.run({"x": np.array([1, 2, 4], np.float32)})

        np.testing.assert_array_equal(answer["y"], [2.5, 5, 10])
        with pytest.raises(EngineError, match=r"No x was given\."):
            worker.run({"z": np.array([1], np.float32)})
        assert worker.run({"x": np.array([2], np.float32)})["y"] == [5]


def test_a_strangers_engine_keeps_the_contract(plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(plugin))
    import times_engine  # type: ignore[import-not-found]

    from towline.testing.engine_contract import check_engine

    request = {"x": np.array([1, 2], np.float32)}
    check_engine(times_engine.TimesEngine(), tmp_path, version(tmp_path, "times"), request)

    class Careless(times_engine.TimesEngine):  # type: ignore[misc]
        def load(self, folder: Path, manifest: Manifest, options: object) -> object:
            session = super().load(folder, manifest, options)
            session.run = lambda inputs, *, slot=0: [inputs["x"].astype(np.float64)]
            return session

    with pytest.raises(AssertionError, match="came as float64, the signature says float32"):
        check_engine(Careless(), tmp_path, version(tmp_path, "times"), request)


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match="No engine named 'abacus' is installed"):
        LocalWorker.start(tmp_path, version(tmp_path, "abacus"))
