"""What a training pass is told and when its zeros come: decided without a framework."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from towline.optimize.base import Material, Pass, PassFailed, settings_of
from towline.optimize.passes import kind_of, pass_of
from towline.optimize.train import SHARES, Finetune, Sparse, ramp_epochs, share_after, sparsities
from towline.optimize.training.settings import Training


@pytest.mark.parametrize("chosen", [Finetune(Training(augment=("shift",))), Sparse(0.9, "l0", scope="layer")])
def test_a_pass_comes_back_from_its_words(chosen: Pass):
    assert isinstance(chosen, Pass)
    assert pass_of(kind_of(chosen), settings_of(chosen)) == chosen
    assert chosen.environment == "torch"


def test_settings_are_told_in_one_line():
    told = Sparse(0.9, "l1", scope="layer", training=Training(epochs=4)).settings

    assert told == "90 % zeros by l1, of each layer, penalty 0.1, 4 epochs, adam 0.001, cosine, batches of 128"


@pytest.mark.parametrize("chosen", [Finetune(), Sparse()])
def test_training_without_rows_is_refused(chosen: Pass, tmp_path: Path):
    with pytest.raises(PassFailed, match="needs rows to learn from"):
        chosen.run(tmp_path / "m.onnx", tmp_path, Material())


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        (Sparse(1.0), "lie between 0 and 1, not at 1 and 0.5"),
        (Sparse(ramp=0.0), "not at 0.8 and 0"),
        (Sparse(training=Training(epochs=1)), "need two epochs at least"),
    ],
)
def test_sparse_weights_that_cannot_be_are_refused(chosen: Pass, why: str, tmp_path: Path):
    with pytest.raises(PassFailed, match=why):
        chosen.run(tmp_path / "m.onnx", tmp_path, Material(rows=tmp_path))


def test_zeros_come_quickly_at_first_and_all_are_there_at_the_end():
    shares = [share_after(step, 10, 0.8) for step in range(11)]

    assert shares[0] == 0
    assert shares[5] == pytest.approx(0.8 * (1 - 0.5**3))
    assert shares[10] == share_after(25, 10, 0.8) == 0.8
    gains = [later - sooner for sooner, later in pairwise(shares)]
    assert gains == sorted(gains, reverse=True)


@pytest.mark.parametrize(("epochs", "ramp", "first"), [(6, 0.5, 3), (2, 0.5, 1), (2, 0.9, 1), (5, 0.01, 1), (10, 0.8, 8)])
def test_there_is_an_epoch_to_make_zeros_and_one_to_make_up_for_them(epochs: int, ramp: float, first: int):
    assert ramp_epochs(epochs, ramp) == first


def test_ever_more_zeros_are_tried_by_the_training_that_is_given():
    assert [one.share for one in sparsities(Training(epochs=9))] == list(SHARES)
    assert {one.training.epochs for one in sparsities(Training(epochs=9))} == {9}
    assert sparsities() == tuple(replace(Sparse(), share=share) for share in SHARES)
