"""Names that TensorFlow takes for something else are written otherwise, each still its own."""

from __future__ import annotations

import pytest

from towline.convert.onnx2tf import names_in_file


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (["x", "input.1", "536"], ["x", "input.1", "536"]),
        (["in/x:0", "a b", "é"], ["in_x_0", "a_b", "_"]),
        (["a/b", "a:b", "a_b", "a/b_2"], ["a_b", "a_b_2", "a_b_3", "a_b_2_2"]),
    ],
)
def test_each_name_has_one_of_its_own_in_the_file(names: list[str], written: list[str]) -> None:
    assert list(names_in_file(names).values()) == written
