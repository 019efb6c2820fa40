"""Which dims may be padded is shown by runs: of models that are right about padding, of wrong ones, and of those that values hide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from direct_runner import DirectRunner

from towline.core.errors import EngineError
from towline.core.manifest import CutOutput, PaddedInput, Signature, TensorSpec
from towline.core.padding import joined, own_part
from towline.testing import tiny_models, tiny_sequences
from towline.verify.independence import SIZE_NOISE
from towline.verify.inputs import Recipe
from towline.verify.padding_rows import Filling, NothingUnlike, Rows
from towline.verify.padding_trial import Trial
from towline.verify.smoke import Smoked, smoke_test

IDS = PaddedInput("input_ids", 1, 0)


def smoke(model: bytes, **options) -> Smoked:
    runner = DirectRunner(model)
    return smoke_test(runner, runner.signature(), **options)


@pytest.mark.parametrize(
    ("model", "inputs", "outputs"),
    [
        (tiny_sequences.encoder(), (IDS, PaddedInput("attention_mask", 1, 0)), (CutOutput("vectors", 1),)),
        (tiny_sequences.encoder(pooled=True), (IDS, PaddedInput("attention_mask", 1, 0)), ()),
        # A mask that marks padding, not tokens.
        (tiny_sequences.encoder(mask="padding_mask"), (IDS, PaddedInput("padding_mask", 1, 1)), (CutOutput("vectors", 1),)),
        (tiny_sequences.recurrent(), (PaddedInput("x", 1, 0),), (CutOutput("y", 1),)),
        (tiny_sequences.squares(), (PaddedInput("x", 1, 0),), (CutOutput("y", 1),)),
        # From both sides it reads zeros, which leave its state at zero.
        (tiny_sequences.recurrent(direction="bidirectional", biased=False), (PaddedInput("x", 1, 0),), (CutOutput("y", 1),)),
        # Its token 0 has no weight: it knows padding by its value.
        (tiny_sequences.pooled_vectors(how="ReduceSum", known=range(1, 64)), (IDS,), ()),
    ],
    ids=["encoder", "pooled", "padding_mask", "causal", "elementwise", "bidirectional without bias", "padding known by value"],
)
def test_a_model_that_padding_does_not_change_says_which_inputs_are_filled_with_what_and_which_outputs_are_cut(model, inputs, outputs):
    smoked = smoke(model)

    (found,) = smoked.padding
    assert (found.dim, found.inputs, found.outputs) == ("T", inputs, outputs)
    assert found.shortest == 1
    assert found.longest >= 32
    assert found.gap <= 2**-14
    assert smoked.unpadded_because == {}


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (tiny_sequences.encoder(mask=""), "output 'vectors' of a padded row is not what it is alone: it departs by"),
        (tiny_sequences.encoder(mask="", pooled=True), "output 'vectors' of a padded row is not what it is alone: it departs by"),
        (tiny_sequences.recurrent(direction="bidirectional"), "output 'y' of a padded row is not what it is alone: it departs by"),
        (tiny_sequences.recurrent(state=True), "output 'y' of a padded row is not what it is alone: it departs by"),
        (tiny_models.bag_of_tokens(masked=False), "output 'logits' of a padded row is not what it is alone: it departs by"),
        (tiny_sequences.pooled_vectors(how="ReduceMax"), "output 'y' of a padded row is not what it is alone: it departs by"),
        (tiny_sequences.windows(), "output 'y' grows with it, but is not as long"),
        (tiny_models.identity("string", ("N", "T")), "input 'x' holds strings, which are not padded"),
    ],
    ids=["encoder without mask", "its mean", "bidirectional", "last state", "sum", "maximum", "windows", "strings"],
)
def test_a_model_that_padding_changes_is_never_padded_and_says_why(model, reason):
    smoked = smoke(model)

    assert smoked.batchable
    assert smoked.padding == ()
    assert smoked.unpadded_because["T"].startswith(reason)


def test_a_mask_that_lets_a_little_through_is_found_out_although_it_is_less_than_rounding_may_be():
    smoked = smoke(tiny_sequences.encoder(closing=-9.0))

    said = smoked.unpadded_because["T"]
    assert said.startswith("output 'vectors' of a padded row is not what it is alone: it departs by up to ")
    assert float(said.rpartition("up to ")[2].split()[0]) < 100 * SIZE_NOISE["float32"]


@pytest.mark.parametrize(
    "model",
    [
        # The tokens that are tried have no vectors: the mean of nothing is the same, however long.
        tiny_sequences.pooled_vectors(known=range(20, 64)),
        tiny_sequences.encoder(mask="", known=range(20, 64)),
        tiny_sequences.encoder(known=range(20, 64)),
    ],
    ids=["mean", "encoder without mask", "encoder"],
)
def test_tokens_without_a_vector_show_nothing(model):
    smoked = smoke(model)

    assert smoked.padding == ()
    assert "did not change with what was tried, so nothing is shown by its staying equal" in smoked.unpadded_because["T"]


def test_an_encoder_of_two_tokens_is_proven_with_both_and_one_without_a_mask_is_found_out():
    assert smoke(tiny_sequences.encoder(vocabulary=2)).padding
    assert smoke(tiny_sequences.encoder(vocabulary=2, mask="")).padding == ()


def test_rows_end_with_something_else_than_padding_and_their_masks_are_open():
    runner = DirectRunner(tiny_sequences.encoder())
    recipe = Recipe(runner.signature(), {"T": 8})
    rows = Rows(recipe, np.random.default_rng(0), Filling(("T",)))

    for _ in range(20):
        drawn = rows.draw({"T": 5})
        assert drawn["input_ids"][0, -1] != 0
        assert drawn["attention_mask"].tolist() == [[1, 1, 1, 1, 1]]


def test_values_that_are_all_like_the_padding_prove_nothing():
    runner = DirectRunner(tiny_sequences.encoder())
    recipe = Recipe(runner.signature(), {"T": 8})
    zeros = replace(recipe, style=replace(recipe.style, integers="zeros"))

    with pytest.raises(NothingUnlike):
        Rows(zeros, np.random.default_rng(0), Filling(("T",))).draw({"T": 5})


def test_the_longest_that_the_engine_takes_is_found_to_the_element():
    (found,) = smoke(tiny_sequences.encoder(positions=77)).padding

    assert found.longest == 77


def test_no_longer_rows_are_tried_than_the_budget_holds():
    (found,) = smoke(tiny_sequences.encoder(), budget_s=0.0).padding

    assert (found.shortest, found.longest) == (1, 32)


def test_two_dims_are_proven_together():
    smoked = smoke(tiny_sequences.squares(shape=("N", "H", "W")), budget_s=0.0)

    assert [(one.dim, one.inputs[0].axis, one.outputs[0].axis) for one in smoked.padding] == [("H", 1, 1), ("W", 2, 2)]


def test_dims_without_a_name_at_the_same_place_of_several_inputs_are_proven_as_one():
    runner = DirectRunner(tiny_sequences.encoder())
    named = runner.signature()
    symbols = {"input_ids": "input_ids_1", "attention_mask": "attention_mask_1", "vectors": "vectors_1"}

    def unnamed(specs):
        return tuple(TensorSpec(one.name, one.dtype, ("N", symbols[one.name], *one.shape[2:])) for one in specs)

    signature = Signature(unnamed(named.inputs), unnamed(named.outputs))

    (found,) = smoke_test(runner, signature, unnamed=symbols.values(), budget_s=0.0).padding
    assert (found.dim, found.inputs) == ("input_ids_1", (IDS, PaddedInput("attention_mask", 1, 0)))
    assert found.outputs == (CutOutput("vectors", 1),)
    # A name that somebody gave is what he meant.
    assert smoke_test(runner, signature, budget_s=0.0).padding == ()


def test_of_two_dims_the_one_that_padding_changes_is_left_out():
    smoked = smoke(tiny_models.mel_profile(mels="M"), budget_s=0.0)

    assert [one.dim for one in smoked.padding] == ["M"]
    assert list(smoked.unpadded_because) == ["T"]


def test_a_version_that_is_never_merged_is_not_tried():
    smoked = smoke(tiny_models.identity("float32", ("N", "N")))

    assert (smoked.padding, smoked.unpadded_because) == ((), {})


def test_a_version_without_free_dims_costs_no_run(monkeypatch):
    tried = []
    monkeypatch.setattr(Trial, "__init__", lambda self, *given: tried.append(given))

    assert smoke(tiny_models.mlp()).batchable
    assert tried == []


def test_an_engine_that_takes_no_other_length_says_so():
    class OneLength(DirectRunner):
        def run(self, inputs, *, timeout_s: float = 60.0):
            if next(iter(inputs.values())).shape[1] != 8:
                raise EngineError("the length is 8")
            return super().run(inputs)

    runner = OneLength(tiny_sequences.squares())
    smoked = smoke_test(runner, runner.signature())

    assert smoked.unpadded_because == {"T": "the engine refuses another length: the length is 8"}


def test_a_row_that_changes_with_the_longer_ones_beside_it_is_not_padded():
    class Neighbourly(DirectRunner):
        """Lets a little of the last row into all others, only where a batch is padded."""

        def run(self, inputs, *, timeout_s: float = 60.0):
            answer = super().run(inputs)
            if len(inputs["x"]) > 4 and not inputs["x"][0, -1]:
                answer["y"] = answer["y"] + np.float32(1e-6) * answer["y"][-1:, :1]
            return answer

    runner = Neighbourly(tiny_sequences.squares())
    smoked = smoke_test(runner, runner.signature())

    assert smoked.unpadded_because == {"T": "a row changes with the values of the longer rows that it is padded beside"}


def test_parts_are_joined_with_a_value_behind_the_shorter_and_cut_out_as_they_were():
    parts = [np.arange(6).reshape(2, 3), np.arange(2).reshape(1, 2)]

    whole = joined(parts, (4,), 9)

    assert whole.tolist() == [[0, 1, 2, 9], [3, 4, 5, 9], [0, 1, 9, 9]]
    assert own_part(whole, slice(2, 3), {1: 2}).tolist() == [[0, 1]]
    assert own_part(whole, slice(0, 2), {1: 3}).flags.c_contiguous
