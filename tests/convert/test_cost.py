"""What an operator costs, by hand."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from towline.convert.cost import cost_of
from towline.core.errors import ImportRefused
from towline.testing import tiny_models


def test_parameters_and_flops_of_each_operator_are_those_counted_by_hand(tmp_path: Path):
    model = tiny_models.write(tmp_path, tiny_models.convolutions())

    cost = cost_of(model, {"image": (2, 3, 8, 8)})

    rows = {row.name: row for row in cost.rows}
    assert rows["conv1"].shape == (2, 8, 8, 8)
    assert rows["conv1"].parameters == 8 * 3 * 3 * 3
    assert rows["conv1"].flops == 2 * (2 * 8 * 8 * 8) * (3 * 3 * 3)
    assert rows["bn1"].parameters == 4 * 8
    assert rows["bn1"].flops == 2 * (2 * 8 * 8 * 8)
    assert rows["relu2"].flops == 2 * 8 * 8 * 8
    assert rows["mean"].flops == 2 * 8 * 8 * 8
    assert rows["dense"].flops == 2 * (2 * 4) * 8 + 2 * 4
    assert cost.flops == sum(row.flops for row in cost.rows)
    assert cost.unknown == 0


def test_shapes_that_the_file_tells_for_another_batch_do_not_count(tmp_path: Path):
    model = onnx.load_model_from_string(tiny_models.convolutions())
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("conv1", onnx.TensorProto.FLOAT, [1, 8, 8, 8]))

    cost = cost_of(tiny_models.write(tmp_path, model.SerializeToString()), {"image": (2, 3, 8, 8)})

    assert cost.rows[0].shape == (2, 8, 8, 8)


def test_what_nobody_can_count_is_unknown_and_not_nothing(tmp_path: Path):
    loop = cost_of(tiny_models.write(tmp_path, tiny_models.counted_loop(3)), {"x": (1,)})
    open_shape = cost_of(tiny_models.write(tmp_path, tiny_models.linear(features=3)), {})

    assert (loop.flops, loop.unknown) == (0, 1)
    assert [(row.parameters, row.flops) for row in open_shape.rows] == [(3, None)]


def test_a_graph_that_cannot_be_read_is_refused_without_a_path(tmp_path: Path):
    with pytest.raises(ImportRefused, match="What the graph costs cannot be told") as refusal:
        cost_of(tiny_models.write(tmp_path, b"\xff\xff\xff"), {})
    assert str(tmp_path) not in refusal.value.message
