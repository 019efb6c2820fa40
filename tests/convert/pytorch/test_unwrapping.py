"""Weights are found inside a checkpoint, and under the names of the architecture."""

from __future__ import annotations

from typing import Any

import pytest

from towline.convert.torch.unwrapping import Unwrapped, renamed, unwrap, without_prefix

WEIGHTS = {"a.weight": 1, "a.bias": 2}


def found(root: Any) -> Unwrapped | None:
    """Numbers stand for tensors here."""
    return unwrap(root, lambda value: isinstance(value, int))


def test_plain_weights_need_no_unwrapping() -> None:
    assert found(WEIGHTS) == Unwrapped(WEIGHTS)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "ema"])
def test_a_dict_around_the_weights_is_named(key: str) -> None:
    assert found({"epoch": "3", key: WEIGHTS}) == Unwrapped(WEIGHTS, (f"The weights were taken from checkpoint['{key}'].",))


def test_dicts_within_dicts_are_named_in_order() -> None:
    unwrapped = found({"model": {"state_dict": WEIGHTS, "version": "1"}})

    assert unwrapped is not None
    assert unwrapped.notes == ("The weights were taken from checkpoint['model']['state_dict'].",)


def test_of_plain_and_averaged_weights_the_plain_are_taken_and_that_is_said() -> None:
    unwrapped = found({"model_ema": {"a.weight": 9}, "model": WEIGHTS})

    assert unwrapped is not None
    assert unwrapped.tensors == WEIGHTS
    assert "The checkpoint also holds weights as 'model_ema'; those of 'model' were taken." in unwrapped.notes


def test_parts_that_are_kept_apart_are_joined() -> None:
    unwrapped = found({"front": {"w": 1}, "back": {"w": 2}})

    assert unwrapped is not None
    assert unwrapped.tensors == {"front.w": 1, "back.w": 2}


@pytest.mark.parametrize("root", [None, [1], {}, {"epoch": "3"}, {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}}, "text"])
def test_where_there_are_no_weights_none_are_found(root: Any) -> None:
    assert found(root) is None


def test_a_dict_that_holds_itself_is_no_trap() -> None:
    root: dict[str, Any] = {}
    root["model"] = root

    assert found(root) is None


def test_prefixes_that_wrappers_put_there_are_known() -> None:
    assert without_prefix(["module.model.a", "module.model.b"]) == "module.model."
    assert without_prefix(["module.a", "b"]) == ""
    assert without_prefix(["n_averaged", "module.a"]) == "module."
    assert without_prefix([]) == ""


def test_a_prefix_is_taken_away_only_when_more_names_then_agree() -> None:
    given = {"module.a.weight": 1, "module.a.bias": 2}

    assert renamed(given, WEIGHTS).tensors == WEIGHTS
    assert renamed(given, WEIGHTS).notes == ("'module.' was taken from the front of every name of the weights.",)
    assert renamed(given, given) == Unwrapped(given)
    assert renamed(WEIGHTS, given).tensors == given
    assert renamed({f"_orig_mod.module.{name}": value for name, value in WEIGHTS.items()}, WEIGHTS).tensors == WEIGHTS
