"""A model of the caller's own process is known by its classes, and proven like a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy_importer

import towline
from towline.app.importing.live import recognise_object
from towline.convert.base import Converted, Source
from towline.convert.foreign import importers
from towline.convert.foreign.local import LocalConverter
from towline.core.errors import EngineError, ImportRefused, UsageError
from towline.core.frames import decode_frame


def kind(name: str, module: str, *bases: type) -> type:
    return type(name, bases, {"__module__": module})


TORCH = kind("Module", "torch.nn.modules.module")
KERAS = kind("Model", "keras.src.models.model")
SKLEARN = kind("BaseEstimator", "sklearn.base")


@pytest.mark.parametrize(
    ("model", "importer"),
    [
        (TORCH(), "torch"),
        (kind("Net", "__main__", TORCH)(), "torch"),
        (kind("Functional", "keras.src.models.functional", KERAS)(), "tensorflow"),
        # Keras on PyTorch is Keras all the same.
        (kind("Mine", "mypackage", kind("Layer", "keras.src.layers.layer", KERAS, TORCH))(), "tensorflow"),
        (kind("LGBMClassifier", "lightgbm.sklearn", SKLEARN)(), "tabular"),
        (kind("Booster", "lightgbm.basic")(), "tabular"),
        (kind("Mine", "__main__", SKLEARN)(), "tabular"),
    ],
)
def test_a_model_is_known_by_the_package_of_its_nearest_class(model: object, importer: str):
    assert recognise_object(model).importer == importer


@pytest.mark.parametrize("model", [{}, 7, np.zeros(3), kind("Tensor", "torch")(), kind("Module", "mypackage.torch")()])
def test_what_is_no_model_is_refused_by_its_class(model: object):
    with pytest.raises(UsageError, match=type(model).__name__) as refusal:
        recognise_object(model)

    assert refusal.value.code == "NO_MODEL"


class Live:
    """Stands for a module; its options say what the toy behind it does."""

    __module__ = "torch.nn.modules.module"

    def __init__(self, **options: str) -> None:
        self.options = options


Live.__name__ = "Module"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(importers.LIVE, "torch", "toy_importer:live_toy")
    return tmp_path / "home"


def test_an_object_is_proven_and_stored_and_known_again(home: Path):
    first = towline.import_model(Live(), name="toy", home=home)
    again = towline.import_model(Live(), name="toy", home=home)

    assert (str(first.version), first.existed, again.existed) == ("toy:1", False, True)
    assert first.version.manifest.origin.format == "PyTorch module"
    assert first.version.manifest.source_answers
    assert towline.load("toy", home=home).predict(np.float32([[1, 2, 3]])).tolist() == [[2, 4, 6]]


def test_a_sample_of_arrays_is_what_it_is_proven_on_and_says_what_it_takes(home: Path):
    version = towline.import_model(Live(), name="toy", sample={"x": np.float64([[1, 2, 3]])}, home=home).version

    kept = decode_frame((version.path / version.manifest.source_answers[0].request).read_bytes())
    assert kept["x"].tolist() == [[1, 2, 3]]
    assert toy_importer.DECLARED[-1] == "x=float32[N,3]"


def test_an_object_that_is_converted_wrongly_is_refused(home: Path):
    with pytest.raises(ImportRefused, match="does not answer as its source does"):
        towline.import_model(Live(routes="wrong"), name="toy", home=home)


def test_arrays_go_with_an_object_only(tmp_path: Path):
    with pytest.raises(UsageError, match="sample in a file"):
        towline.import_model(tmp_path / "model.onnx", sample=np.zeros(3), home=tmp_path / "home")


def test_whatever_a_framework_raises_is_a_refusal_and_the_next_route_is_tried(tmp_path: Path):
    class Broken(toy_importer.Toy):
        def answer(self, inputs: Any, *, signature: str) -> dict[str, np.ndarray]:
            raise ZeroDivisionError("no way")

        def convert(self, route: str, into: Path) -> Converted:
            raise AttributeError("nowhere")

    source: Source = Broken({})
    converter = LocalConverter(source, tmp_path)

    with pytest.raises(EngineError, match="ZeroDivisionError: no way"):
        converter.answer({}, signature="serving_default")
    with pytest.raises(towline.TowlineError, match="AttributeError: nowhere") as refusal:
        converter.convert("right")
    assert refusal.value.code == "CONVERSION_FAILED"
