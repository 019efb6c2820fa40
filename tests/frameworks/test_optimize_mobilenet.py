"""MobileNetV2, which plain int8 ruins: a search names the layers, mends what it can, and hands over what is right and faster or nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from crops import crops

import towline
from towline.app.optimizing.optimize import Limits, optimize
from towline.optimize import plan
from towline.optimize.quantize import Int8
from towline.optimize.search import Explorer
from towline.store.sqlite import open_store

pytestmark = pytest.mark.frameworks

# A fifth of them calibrate.
CROPS = 60
AGREEMENT = 0.95


def test_int8_of_mobilenet_is_right_and_faster_or_is_not_handed_over(
    exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same search in fewer steps: bench/optimize_mobilenet.py takes them all.
    monkeypatch.setattr(plan, "STEPS", (8, 16, 24))
    monkeypatch.setattr(plan, "_RANGES", ("minmax",))
    monkeypatch.setattr(Explorer, "propose", lambda explorer: None)
    folder = exported("mobilenet")
    towline.import_model(folder / "model.onnx", name="net", home=tmp_path / "home")
    np.savez(tmp_path / "crops.npz", image_tensor=crops(folder / "pictures", CROPS))

    found = optimize(
        "net",
        tmp_path / "crops.npz",
        only=("int8", "equalise", "round"),
        limits=Limits(min_agreement=AGREEMENT),
        home=tmp_path / "home",
    )

    naive = found.tried[0]
    assert [type(one) for one in naive.tried.passes] == [Int8]
    assert not naive.fits
    assert naive.because.startswith("Not fit to take over: agreement is")
    with open_store(tmp_path / "home") as store:
        record = store.events(kind="version.optimized")[-1].data
    guiltiest = sorted(record["guilty"], key=lambda one: one["sqnr_db"])[:5]
    assert any("features.0" in one["operator"] or "features.1/" in one["operator"] for one in guiltiest), "the first layers are known to be"
    mixed = [one for one in found.tried if isinstance(one.tried.last, Int8) and one.tried.last.floats]
    assert mixed, "agreement against speed for ever more operators in float"
    if found.result is None:
        assert not any(one.fits and one.speedup_sure > 1.05 for one in found.tried)
    else:
        assert found.best is not None
        assert (found.best.agreement or 0) >= AGREEMENT
        assert found.best.speedup > 1
        assert (naive.agreement or 0) < AGREEMENT - 0.1, "naive int8 is far from it"
