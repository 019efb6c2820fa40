"""Our passes keep the contract that a stranger's must keep, and the check notices who does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from towline.core.errors import MissingExtra
from towline.optimize.base import Material, Pass, Passed
from towline.optimize.graph import Half, Slim
from towline.optimize.offline import Offline
from towline.optimize.passes import BUILT_IN, class_of, pass_of
from towline.optimize.process import Work, run_pass, write_calibration
from towline.optimize.quantize import DynamicInt8, Int8
from towline.optimize.rounding import Round
from towline.optimize.stored import Stored
from towline.optimize.weight_only import WeightOnly
from towline.testing import tiny_models
from towline.testing.pass_contract import check_pass

ROWS = np.random.default_rng(0).normal(size=(32, 10)).astype(np.float32)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, tiny_models.mlp(), "m.onnx")


# Each in two processes of its own: in the tier that has the time.
@pytest.mark.services
@pytest.mark.parametrize(
    "one",
    [
        Slim(),
        Half(),
        DynamicInt8(),
        Int8(floats=("logits",)),
        Int8(calibration="entropy"),
        WeightOnly(8),
        Stored(4),
        Offline("basic"),
        Round(),
    ],
)
def test_a_pass_of_ours_keeps_the_contract(one: Pass, model: Path, tmp_path: Path):
    work = Work(model, write_calibration([{"x": ROWS}], tmp_path))

    check_pass(one, model, lambda into: run_pass(one, work, into))


@dataclass(frozen=True)
class Copy:
    """A pass that does nothing, in one of several wrong ways."""

    fault: str = ""

    name = "copy"
    environment = ""

    @property
    def settings(self) -> str:
        return "two\nlines" if self.fault == "lines" else "as it is"

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        into.mkdir()
        raw = model.read_bytes()
        if self.fault == "source":
            model.write_bytes(raw + b"\0")
        if self.fault == "chance":
            raw = tiny_models.mlp(width=int(into.name[-1]) + 3)
        if self.fault == "doors":
            raw = tiny_models.identity("float32", ("N", 3, 3))
        (into / "model.onnx").write_bytes(raw)
        return Passed("other.onnx" if self.fault == "nothing" else "model.onnx")


def checked(one: Any, model: Path) -> None:
    check_pass(one, model, lambda into: one.run(model, into, Material()))


def test_a_pass_that_keeps_the_contract_passes(model: Path):
    checked(Copy(), model)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("lines", "more than one line"),
        ("source", "must not change"),
        ("chance", "another model the second time"),
        ("doors", "inputs were"),
        ("nothing", "there is none"),
    ],
)
def test_a_pass_that_breaks_it_is_told_which_clause(fault: str, said: str, model: Path):
    with pytest.raises(AssertionError, match=said):
        checked(Copy(fault), model)


@pytest.mark.parametrize("kind", sorted(BUILT_IN))
def test_every_pass_is_found_by_the_name_of_its_class_and_by_its_settings(kind: str):
    assert class_of(kind).__name__ == kind
    assert type(pass_of(kind, {})).__name__ == kind


def test_a_pass_that_nobody_has_is_told_what_there_is():
    with pytest.raises(MissingExtra, match="Nothing") as missing:
        class_of("Nothing")

    assert "Int8" in str(missing.value.hint)
