"""What the environment of each framework holds: one table, and the digest by which one made from an older table is known. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from towline.core.errors import UsageError

# What our own package needs wherever it is lent, and what every importer writes.
_EVERYWHERE = ("numpy>=2.0,<3", "msgspec>=0.19,<0.23", "onnx>=1.18,<2")
# What declared processing reads pictures, sound and text with, in a worker that runs the framework itself.
_PROCESSING = ("pillow>=11,<14", "soxr>=0.5,<2", "tokenizers>=0.20,<0.24")


@dataclass(frozen=True)
class Recipe:
    """`requirements` are pip's; `modules` must load before the environment counts as made; `disk_bytes` is what it takes without CUDA.

    `silenced` are modules that report home when they are imported, and so are not: in this trial, nor in the engine.
    """

    name: str
    purpose: str
    requirements: tuple[str, ...]
    modules: tuple[str, ...]
    disk_bytes: int
    silenced: tuple[str, ...] = ()


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            "torch",
            "PyTorch: modules, TorchScript, .pt2, .pth, safetensors; training, pruning, distillation",
            # onnxscript: the exporter that torch.export feeds. torchvision pins its torch, so the two move together.
            (
                *_EVERYWHERE,
                *_PROCESSING,
                "torch==2.13.0",
                "torchvision==0.28.0",
                "onnxscript>=0.7,<0.8",
                "onnxslim>=0.1.90,<0.2",
                "safetensors>=0.5,<1",
                "torch-pruning>=1.6,<2",
            ),
            ("torch", "onnxscript", "onnxslim", "safetensors", "torch_pruning"),
            1100 << 20,
        ),
        Recipe(
            "tensorflow",
            "TensorFlow and Keras: SavedModel, frozen graphs, checkpoints, .keras, .h5",
            (*_EVERYWHERE, *_PROCESSING, "tensorflow-cpu>=2.21,<2.22", "keras>=3.10,<4", "tf2onnx>=1.17,<2", "onnxslim>=0.1.90,<0.2"),
            ("tensorflow", "keras", "tf2onnx", "onnxslim"),
            1750 << 20,
        ),
        Recipe(
            "litert", "TFLite / LiteRT", (*_EVERYWHERE, *_PROCESSING, "ai-edge-litert>=2.1,<3"), ("ai_edge_litert.interpreter",), 220 << 20
        ),
        Recipe(
            "openvino",
            "OpenVINO: runs ONNX versions (towline tune --engine openvino)",
            (*_EVERYWHERE, *_PROCESSING, "openvino>=2026.1,<2027"),
            ("openvino",),
            420 << 20,
            silenced=("openvino_telemetry",),
        ),
        Recipe(
            "tabular",
            "scikit-learn and LightGBM",
            # onnxmltools imports packaging and does not ask for it. A model that picks its columns by name takes data frames only.
            (
                *_EVERYWHERE,
                "pandas>=2.2,<4",
                "scikit-learn>=1.5,<2",
                "lightgbm>=4.5,<5",
                "skl2onnx>=1.18,<2",
                "onnxmltools>=1.14,<2",
                "packaging>=24",
            ),
            ("sklearn", "lightgbm", "skl2onnx", "onnxmltools"),
            480 << 20,
        ),
        # The last that runs on Python 3.11; it pins TensorFlow 2.19 and numpy 1.26, and so shares an environment with nobody.
        Recipe(
            "onnx2tf",
            "the way out to devices: towline export --to tflite",
            ("onnx2tf==1.29.24", "msgspec>=0.19,<0.23", "numpy>=1.26,<2", "onnx>=1.18,<2"),
            ("onnx2tf",),
            2700 << 20,
        ),
    )
}


def recipe_of(name: str) -> Recipe:
    """Raises UsageError that lists the names there are."""
    if name not in RECIPES:
        raise UsageError(f"There is no recipe for an environment '{name[:64]}'.", hint=f"There is: {', '.join(RECIPES)}.")
    return RECIPES[name]


def digest(requirements: Sequence[str]) -> str:
    """Equal for equal requirements, in whatever order."""
    return "sha256:" + hashlib.sha256(json.dumps(sorted(requirements)).encode()).hexdigest()
