"""Done for a text encoder: what is slower on this machine is found to be slower and is said to be, and the best of what helps is taken."""

from __future__ import annotations

import time

import numpy as np
import onnx
import pytest
from encoders import Size, sentences, trained

import towline
from towline.app.optimizing.optimize import Limits, Optimized, optimize
from towline.optimize.base import Pass
from towline.optimize.plan import AS_FAST, FASTER, SMALLER
from towline.optimize.quantize import DynamicInt8, Int8
from towline.optimize.weight_only import weights_only
from towline.store.sqlite import open_store

# A real search, which times what it tries.
pytestmark = pytest.mark.services

SIZE = Size(layers=4, width=256, heads=4, length=32, vocabulary=500)
FITTED, JUDGED = 200, 150
PASSES: tuple[Pass, ...] = (DynamicInt8(reduce_range=True), Int8(reduce_range=True), *weights_only()[:3])


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Optimized:
    folder = tmp_path_factory.mktemp("encoder")
    ids, kinds = sentences(FITTED + JUDGED, SIZE)
    onnx.save(trained(SIZE, ids[:FITTED], kinds[:FITTED]), folder / "encoder.onnx")
    np.savez(folder / "sentences.npz", ids=ids[FITTED:], labels=kinds[FITTED:])
    towline.import_model(folder / "encoder.onnx", name="encoder", home=folder / "home")
    began = time.monotonic()
    found = optimize("encoder", folder / "sentences.npz", passes=PASSES, limits=Limits(max_drop=0.02), home=folder / "home")
    print(f"searched {time.monotonic() - began:.1f} s")
    with open_store(folder / "home") as store:
        event = store.events(kind="version.optimized")[-1]
    assert event.data["tried"] == found.as_json()["tried"], "what was found is on record"
    return found


def test_every_way_was_timed_on_this_machine(found: Optimized):
    assert [one.tried.last for one in found.tried] == list(PASSES)
    assert not found.stopped
    assert all(one.speedup > 0 for one in found.tried), [one.because for one in found.tried]


def test_what_is_slower_here_is_not_taken_and_says_so(found: Optimized):
    for one in found.tried:
        if one.speedup < 1:
            assert one.because, f"{one.tried.name} at {one.speedup:.2f}x has no reason"
            assert not one.fits or f"slower here: {one.speedup:.2f}x" in one.because
        if not one.fits:
            assert one.because
            assert one is not found.best
    assert found.best is None or found.best.speedup >= AS_FAST


def test_the_best_of_what_is_worth_it_is_handed_over(found: Optimized):
    worth = [
        one for one in found.tried if one.fits and (one.speedup_sure >= FASTER or (one.speedup >= AS_FAST and one.size_ratio <= SMALLER))
    ]
    # Stored weights are at least as fast and a quarter of the size, on any machine that is not busy with something else.
    assert (found.result is not None) == bool(worth)
    if found.best is not None:
        assert found.best in worth
        assert found.best.speedup >= 0.94 * max(one.speedup for one in worth)


def test_weights_of_eight_bits_in_the_file_keep_the_answers(found: Optimized):
    (stored,) = (one for one in found.tried if one.tried.name == "stored int8")

    assert stored.fits, stored.because
    assert stored.size_ratio < 0.3
