"""Convert a fitted model to ONNX by skl2onnx and onnxmltools, and give the graph the names and shapes that the model answers with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnx.helper

from towline.convert.base import ConversionFailed
from towline.convert.tabular.columns import Columns
from towline.convert.tabular.finish import finish, round_before_trees
from towline.convert.tabular.outputs import PROBABILITIES, SCORES, Output
from towline.convert.tabular.parts import compares_in_floats, parts_of
from towline.convert.wording import sentence

# Trees have a type of their own from ai.onnx.ml 5 on, which converters do not write yet.
OPSETS = {"": 18, "ai.onnx.ml": 3}


def converted(model: Any, columns: Columns, outputs: tuple[Output, ...], *, doubles: bool) -> bytes:
    """The ONNX model. Raises ConversionFailed with what the converter said."""
    try:
        with warnings.catch_warnings(), _whole_numbers(), _thresholds_as_compared():
            warnings.simplefilter("ignore")
            graph = _graph(model, columns, outputs, doubles)
            if doubles and compares_in_floats(model):
                round_before_trees(graph)
            return bytes(finish(graph, columns, outputs, doubles=doubles).SerializeToString())
    except ConversionFailed:
        raise
    except Exception as error:
        # Converters raise whatever a part that they do not know makes of them.
        raise ConversionFailed(sentence(f"{type(error).__name__}: {error}")) from None


def _graph(model: Any, columns: Columns, outputs: tuple[Output, ...], doubles: bool) -> onnx.ModelProto:
    from skl2onnx import to_onnx

    _register_lightgbm(model)
    _straighten(model)
    takes = [(spec.name, _tensor_type(spec.dtype, list(spec.shape or ()), doubles)) for spec in columns.specs]
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    for options in _options(outputs):
        for part in (model, last):
            try:
                graph: onnx.ModelProto = to_onnx(
                    model, initial_types=takes, target_opset=OPSETS, options={id(part): options} if options else None
                )
                return graph
            except NameError as unknown:
                # One of the options; which ones a part has is known to its converter only.
                if "ption" not in str(unknown):
                    raise
    raise ConversionFailed("skl2onnx knows none of the options that keep labels and scores apart.")


def _options(outputs: tuple[Output, ...]) -> Iterator[dict[str, bool] | None]:
    """Answers as tensors, not as a dict per row; scores as they are, not as probabilities. Not every converter knows every option."""
    names = {output.spec.name for output in outputs}
    if SCORES in names and "label" in names:
        yield {"zipmap": False, "raw_scores": True}
        yield {"raw_scores": True}
    if PROBABILITIES in names or SCORES in names:
        yield {"zipmap": False}
    yield None


def _tensor_type(dtype: str, shape: list[Any], doubles: bool) -> Any:
    from skl2onnx.common import data_types

    dims = [None, *shape[1:]]
    if dtype in ("float32", "float64"):
        return data_types.DoubleTensorType(dims) if doubles or dtype == "float64" else data_types.FloatTensorType(dims)
    return {"int64": data_types.Int64TensorType, "bool": data_types.BooleanTensorType}.get(dtype, data_types.StringTensorType)(dims)


def _register_lightgbm(model: Any) -> None:
    """LightGBM's models, alone or as steps of a pipeline, are converted by onnxmltools. Raises ConversionFailed for linear trees."""
    boosted = [part for part in parts_of(model) if hasattr(part, "booster_")]
    if not boosted:
        return
    for part in boosted:
        if any("leaf_coeff" in str(tree["tree_structure"]) for tree in part.booster_.dump_model()["tree_info"]):
            raise ConversionFailed("LightGBM's linear trees have no counterpart in ONNX.")
    from lightgbm import LGBMClassifier, LGBMRegressor
    from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
    from skl2onnx import update_registered_converter
    from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes, calculate_linear_regressor_output_shapes

    from towline.convert.tabular.booster import BoosterClassifier, BoosterRegressor

    of_classes = {"nocl": [True, False], "zipmap": [True, False, "columns"]}
    for kind in (LGBMClassifier, BoosterClassifier):
        name = f"LightGbm{kind.__name__}"
        update_registered_converter(kind, name, calculate_linear_classifier_output_shapes, convert_lightgbm, options=of_classes)
    for kind in (LGBMRegressor, BoosterRegressor):
        name = f"LightGbm{kind.__name__}"
        update_registered_converter(kind, name, calculate_linear_regressor_output_shapes, convert_lightgbm, options={"split": None})


def _straighten(model: Any) -> None:
    """Settings that change no prediction, but that the converter insists on."""
    for part in parts_of(model):
        if type(part).__name__ == "VotingClassifier":
            part.flatten_transform = False


@contextmanager
def _whole_numbers() -> Iterator[None]:
    """While converting, booleans in attributes are the whole numbers that ONNX wants: protobuf takes them for nothing else any more."""
    original = onnx.helper.make_attribute

    def make_attribute(key: str, value: Any, *rest: Any, **more: Any) -> Any:
        if isinstance(value, list) and any(isinstance(one, bool | np.bool_) for one in value):
            value = [int(one) for one in value]
        return original(key, value, *rest, **more)

    onnx.helper.make_attribute = make_attribute
    try:
        yield
    finally:
        onnx.helper.make_attribute = original


@contextmanager
def _thresholds_as_compared() -> Iterator[None]:
    """scikit-learn's trees compare float32 values with thresholds in float64. A graph's thresholds are float32: each becomes the greatest
    one not beyond the original, which splits the same. Left alone, the converter does so in graphs of floats only.
    """
    from skl2onnx.common import tree_ensemble

    original = tree_ensemble.sklearn_threshold
    tree_ensemble.sklearn_threshold = lambda threshold, dtype, mode: original(threshold, np.float32, mode)
    try:
        yield
    finally:
        tree_ensemble.sklearn_threshold = original
