"""The training loop learns, stops, and goes on after a kill as if nothing had been (tests/frameworks/training_lab.py does the training)."""

from __future__ import annotations

import math
from typing import Any

import pytest

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "adam", "adamw"])
def test_each_optimizer_learns_and_each_schedule_goes_its_own_way(trained: dict[str, Any], optimizer: str):
    curves = {schedule: trained["kinds"][f"{optimizer} {schedule}"] for schedule in ("constant", "step", "cosine")}

    assert all(losses[-1] < 0.65 * losses[0] for losses in curves.values())
    assert len({losses[-1] for losses in curves.values()}) == 3


def test_equal_seeds_give_equal_weights_and_others_others(trained: dict[str, Any]):
    assert trained["seeds"]["one"] == trained["seeds"]["again"] != trained["seeds"]["other"]


def test_each_epoch_says_how_it_went_and_how_long_it_will_take(trained: dict[str, Any]):
    first = trained["seeds"]["said"][0]

    assert first.startswith("epoch 1 of 4: loss 2.")
    assert ", validation 2." in first
    assert " % right, " in first
    assert first.endswith(" s left")


def test_chance_is_another_at_each_step(trained: dict[str, Any]):
    assert trained["seeds"]["drawn"] == 4 * 5


def test_a_long_epoch_is_not_silent(trained: dict[str, Any]):
    talk = trained["seeds"]["talk"]

    assert talk[1].startswith("epoch 1 of 4, 40 % of it: loss 2.")
    assert talk[4].startswith("epoch 1 of 4: loss 2.")
    assert len(talk) == 4 * 5


def test_curves_tell_the_loss_of_each_epoch_and_what_the_rows_held_back_say(trained: dict[str, Any]):
    curves, (loss, right) = trained["seeds"]["curves"], trained["seeds"]["evaluated"]

    assert {name: len(values) for name, values in curves.items()} == {"loss": 4, "validation": 4, "validation accuracy": 4}
    assert curves["validation"][-1] == pytest.approx(loss, rel=1e-5)
    assert curves["validation accuracy"][-1] == right


def test_a_training_killed_again_and_again_ends_with_the_weights_of_an_undisturbed_one(trained: dict[str, Any]):
    kills = trained["kills"]

    assert kills["deaths"] == [-9, -9, -9, -9, -9, 0]
    assert kills["killed"] == kills["undisturbed"]
    assert kills["killed curves"] == kills["curves"]


def test_it_goes_on_from_the_last_checkpoint_and_a_half_written_one_is_none(trained: dict[str, Any]):
    # Killed at steps 2, 4, 8, 11 and 18 of 5 an epoch, the second and fifth time with no checkpoint but those of whole epochs,
    # the third time before the checkpoint of step 8 had its name.
    assert trained["kills"]["starts"] == [1, 2, 2, 8, 11, 16]


@pytest.mark.parametrize("other", ["other settings", "other loss", "other weights", "other rows", "damaged", "cut"])
def test_a_checkpoint_of_another_training_is_not_taken_up(trained: dict[str, Any], other: str):
    assert trained["checkpoints"]["same"]
    assert not trained["checkpoints"][other]
    assert trained["checkpoints"]["left"] == ["checkpoint"]


def test_it_stops_early_when_asked_to_with_the_weights_of_the_best_epoch(trained: dict[str, Any]):
    patient, last = trained["early"]["2"], trained["early"]["0"]

    best = min(patient["validation"])
    assert len(patient["validation"]) == patient["validation"].index(best) + 1 + 2 < 12
    assert patient["at the end"] == pytest.approx(best, rel=1e-5)
    assert len(last["validation"]) == 12
    assert last["at the end"] == pytest.approx(last["validation"][-1], rel=1e-5)


def test_an_l1_penalty_makes_zeros_of_weights_only_and_an_l2_penalty_makes_them_small(trained: dict[str, Any]):
    none, first, second = (trained["penalties"][name] for name in ("none", "l1", "l2"))

    assert none["zeros"] == second["zeros"] == 0
    assert first["zeros"] > 0.5
    assert first["zeros elsewhere"] == 0
    assert second["norm"] < none["norm"]


def test_rows_that_nobody_labelled_count_nothing(trained: dict[str, Any]):
    found = trained["unlabelled"]

    assert (found["drawn"], found["not drawn"]) == (16, 160)
    assert found["loss"] == pytest.approx(found["of those known"], rel=1e-5)
    assert found["of none"] == 0
    # Of targets 1, unknown and 3 against 0, 5 and 1.
    assert found["targets"] == (1 + 4) / 2


def test_the_soft_loss_is_that_of_its_formula_of_logits_and_of_probabilities(trained: dict[str, Any]):
    for heat in ("T=1", "T=4"):
        by_hand, of_logits, of_chances = trained["teachers"][heat]
        assert of_logits == pytest.approx(by_hand, rel=1e-9)
        assert of_chances == pytest.approx(by_hand, rel=1e-9)


def test_where_several_labels_may_be_right_each_is_softened_by_itself(trained: dict[str, Any]):
    for heat in ("T=1", "T=4"):
        by_hand, of_logits, of_chances = trained["teachers"][f"labels, {heat}"]
        assert of_logits == pytest.approx(by_hand, rel=1e-9)
        assert of_chances == pytest.approx(by_hand, rel=1e-6)
    assert trained["teachers"]["questions"] == {
        "a class": ["classes", False],
        "many labels": ["labels", True],
        "many labels as logits": ["labels", False],
        "many labels as floats": ["labels", True],
        "many labels that nobody wrote down": ["labels", True],
        "shares that nobody labelled": ["classes", True],
        "targets behind a sigmoid": ["values", False],
        "logits that nobody labelled": ["values", False],
        "one yes or no": ["labels", True],
    }


def test_a_teacher_that_is_certain_teaches_too(trained: dict[str, Any]):
    assert trained["teachers"]["of a certain teacher"] == pytest.approx(4**2 * math.log(5), rel=1e-5)


def test_a_module_learns_from_a_teacher_alone(trained: dict[str, Any]):
    assert trained["teachers"]["right"] >= 0.7


def test_the_loss_is_what_the_rows_allow(trained: dict[str, Any]):
    kinds = trained["teachers"]["kinds"]

    assert {name: words.split("(")[0] for name, words in kinds.items()} == {
        "taught": "Soft",
        "both": "Blend",
        "truth alone": "Hard",
        "teacher alone": "Soft",
    }
    assert "probabilities=True" in kinds["taught"]
    assert trained["teachers"]["neither"].startswith("Training needs rows with labels, or a teacher's answers.")


def test_in_a_blend_each_row_weighs_the_same_labelled_or_not(trained: dict[str, Any]):
    blended, by_hand = trained["teachers"]["blend"]

    assert blended == pytest.approx(by_hand, rel=1e-5)


def test_targets_and_one_output_for_two_classes_are_learnt(trained: dict[str, Any]):
    targets, two = trained["values"]["targets"], trained["values"]["two classes"]

    assert targets["validation"][-1] < 0.5 * targets["validation"][0]
    assert "validation accuracy" not in targets
    assert two["loss"][-1] < 0.7 * two["loss"][0]
    assert two["validation accuracy"][-1] > 0.7


def test_what_cannot_be_trained_says_what_to_change(trained: dict[str, Any]):
    found = trained["refused"]

    assert found["rate"].startswith("The loss in epoch 1 is nan: the learning rate 1e+30 is too large. Train with a rate of 1e+29.")
    assert found["setting"].startswith("batch is 1 or more, not 0.")
    assert found["alpha"].startswith("alpha lies between 0 and 1 and temperature above 0, not at 1.5 and 4.")
    assert found["rows"].startswith("There is no row to train on.")
    assert "flip, crop changes pictures" in found["tables"]
    assert "x float32[200, 64]" in found["tables"]


def test_a_loss_with_weights_of_its_own_learns_along_and_comes_back(trained: dict[str, Any]):
    first, again = trained["companions"]["weights"]

    assert first[0] != first[1]
    assert first == again


@pytest.mark.parametrize("how", ["shift", "flip", "crop", "noise", "erase"])
def test_pictures_keep_their_shape_whichever_axis_is_channels(trained: dict[str, Any], how: str):
    first, last = trained["pictures"][f"{how} NCHW"], trained["pictures"][f"{how} NHWC"]

    assert (first["shape"], last["shape"]) == (True, True)
    assert (first["again"], last["again"]) == (True, True)
    assert first["changed"] > 0.4
    # The same picture came of it, or the same noise.
    assert first["digest"] == last["digest"]
    if how in ("shift", "flip", "crop"):
        assert first["channels together"] < 1e-6


def test_an_epoch_is_each_row_once_in_batches_of_one_size_and_another_order_each_time(trained: dict[str, Any]):
    found = trained["order"]

    assert set(found["sizes"]) == {9, 10}
    assert [found[what] for what in ("each once", "again", "other")] == [True, True, True]


def test_labels_and_teachers_of_another_model_are_refused_before_anything_is_trained(trained: dict[str, Any]):
    found = trained["mismatched"]

    assert found["label"] == "A label is 10, but the model has 10 classes, 0 to 9. Check the data's labels: are they of this model?"
    assert "but the model has 2 classes, 0 to 1." in found["yes or no"]
    assert found["labels a row"].startswith("Labels of shape [200, 3] do not go with logits of shape [200, 10].")
    assert found["targets"].startswith("Each row has 4 targets, but the model answers with 10 values.")
    assert found["teacher"].startswith("The teacher answers with [4] a row, the model with [10].")


def test_a_model_that_takes_no_batches_is_refused(trained: dict[str, Any]):
    found = trained["mismatched"]

    assert found["one row"].startswith("The model answers 2 rows with 1: training needs batches.")
    assert found["shapes"].startswith("The model cannot be asked 2 rows of the data at once: mat1 and mat2 shapes cannot be multiplied")


def test_classes_of_tokens_are_found_on_either_axis(trained: dict[str, Any]):
    found = trained["tokens"]

    assert found["last"] == pytest.approx(found["second"], rel=1e-6)
    assert "probabilities=True, of='classes', axis=2" in found["taught"]
