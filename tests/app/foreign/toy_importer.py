"""An importer of a framework that is numpy alone: it scales by weights, in ways that are right, wrong or broken as its options say."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from towline.convert.base import ConversionFailed, Converted, Layer, Task
from towline.core.errors import EngineError, ImportRefused
from towline.core.manifest import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", ("N", 3)),), (TensorSpec("y", "float32", ("N", 3)),))


class ToyImporter:
    name = "toy"
    environment = ""

    def load(self, task: Task) -> Toy:
        if task.options.get("load") == "refuse":
            raise ImportRefused("The toy is broken.", code="BROKEN_TOY", hint="Mend it.")
        if task.options.get("load") == "die":
            print("no more strength", flush=True)
            os.kill(os.getpid(), signal.SIGSEGV)
        if task.options.get("load") == "ask":
            toy = Toy(task.options)
            toy.notes = ("Somebody vouches for it.",) if task.trusted else ()
            return toy
        if task.options.get("load") == "unsteady":
            return UnsteadyToy(task.options)
        return KnowingToy(task.options) if "knows" in task.options else Toy(task.options)


class Toy:
    notes: tuple[str, ...] = ("It is a toy.",)
    facts: Mapping[str, str] = {"toy": "1.0"}
    parameters = 3

    def __init__(self, options: Mapping[str, str]) -> None:
        self._options = options
        self.routes = tuple(options.get("routes", "right").split("+"))
        self.signatures = {"serving_default": SIGNATURE}
        if options.get("two"):
            self.signatures["doubled"] = SIGNATURE

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        if self._options.get("answer") == "refuse":
            raise EngineError("Toys do not answer.")
        return {"y": inputs["x"] * np.float32(4 if signature == "doubled" else 2)}

    def convert(self, route: str, into: Path) -> Converted:
        import onnx
        from onnx import TensorProto, helper

        if route == "impossible":
            raise ConversionFailed("This toy has no edges.")
        if route == "deadly":
            os.kill(os.getpid(), signal.SIGSEGV)
        files = {}
        for name, factor in (("serving_default", 2.0), ("doubled", 4.0)):
            if name not in self.signatures:
                continue
            factor = {"wrong": 2.01, "right": factor}.get(route, factor)
            taken = "input" if route == "renamed" else "x"
            nodes = [helper.make_node("Mul", [taken, "by"], ["y"])]
            if route == "close":
                # Off by a little where the input is 1.
                nodes = [
                    helper.make_node("Mul", [taken, "by"], ["twice"]),
                    helper.make_node("Constant", [], ["one"], value_float=1.0),
                    helper.make_node("Constant", [], ["little"], value_float=0.05),
                    helper.make_node("Equal", [taken, "one"], ["is_one"]),
                    helper.make_node("Cast", ["is_one"], ["as_float"], to=TensorProto.FLOAT),
                    helper.make_node("Mul", ["as_float", "little"], ["more"]),
                    helper.make_node("Add", ["twice", "more"], ["y"]),
                ]
            graph = helper.make_graph(
                nodes,
                "toy",
                [helper.make_tensor_value_info(taken, TensorProto.FLOAT, ["N", 3])],
                [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
                [helper.make_tensor("by", TensorProto.FLOAT, [3], [factor] * 3)],
            )
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
            onnx.save(model, into / f"{name}.onnx")
            files[name] = f"{name}.onnx"
        if route == "escaping":
            files["serving_default"] = "../../../../etc/hostname"
        if route == "linked":
            (into / "serving_default.onnx").unlink()
            (into / "serving_default.onnx").symlink_to("/etc/hostname")
        if route == "engine":
            return Converted(files, engine="torch", environment="torch")
        return Converted(files, notes=(f"Made by way of {route}.",))

    def layers(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> Iterable[Layer]:
        return ()


class KnowingToy(Toy):
    """One that takes nothing but sevens, and says so."""

    @property
    def examples(self) -> Mapping[str, np.ndarray]:
        return {"x": np.full((2, 3 if self._options["knows"] == "sevens" else 4), 7, dtype=np.float32)}

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        if not (inputs["x"] == 7).all():
            raise EngineError("Sevens only.")
        return super().answer(inputs, signature=signature)


class UnsteadyToy(Toy):
    """One that answers ones otherwise when their last digits change: what is off by a little there is no worse."""

    def answer(self, inputs: Mapping[str, np.ndarray], *, signature: str) -> dict[str, np.ndarray]:
        ones = np.ones_like(inputs["x"])
        is_nudged = not np.array_equal(inputs["x"], ones) and np.allclose(inputs["x"], ones, atol=1e-5)
        return {"y": super().answer(inputs, signature=signature)["y"] + np.float32(0.1 * is_nudged)}


# What was said of the inputs of a live one, by the order of asking.
DECLARED: list[str] = []


def live_toy(model: Any, options: Mapping[str, str]) -> Toy:
    DECLARED.append(options.get("input", ""))
    return Toy(model.options)
