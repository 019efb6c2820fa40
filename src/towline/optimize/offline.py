"""Write the graph that ONNX Runtime makes of a model when it loads it. The answers stay.

Measured (ONNX Runtime 1.31, processor time to make a session): MobileNetV2 17 ms, 12 ms from level all; as static int8 25 ms, 13 ms from
level extended, 11 ms from all. A run costs what it did before, since the same is done at each load anyway.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from towline.core.cpu import cpu_kind
from towline.optimize.base import Material, Passed, PassFailed

if TYPE_CHECKING:
    import onnx

Level = Literal["basic", "extended", "all"]
# Convolutions whose weights lie as the vector registers of one kind of CPU want them.
LAYOUT_DOMAIN = "com.microsoft.nchwc"


@dataclass(frozen=True)
class Offline:
    """ONNX Runtime's own optimisation, done once and not at each load.

    `basic` keeps to standard ONNX, which other engines and passes read too: constants are folded, and Transposes around operators that need
    none are taken out. `extended` fuses operators and runs wherever ONNX Runtime does. `all` also lays weights out for the kind of CPU that
    it is done on, `cpu` (core/cpu.py), and is loaded on no other (engines/onnxruntime.py).
    """

    level: Level = "extended"
    cpu: str = ""

    name = "offline"
    environment = ""

    @property
    def settings(self) -> str:
        return f"level {self.level}" + (f", for {self.cpu} only" if self.cpu else "")

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        import onnx

        if self.level == "all" and self.cpu != cpu_kind():
            raise PassFailed(
                f"Level all lays weights out for the CPU that does it, which is {cpu_kind()}; asked for was {self.cpu or 'none'}."
            )
        before = Counter(node.op_type for node in onnx.load(model, load_external_data=False).graph.node)
        written = into / "model.onnx"
        _optimised(model, written, self.level)
        after = onnx.load(written)
        _keep_used_domains(after)
        onnx.save(after, written)
        fused = "" if self.level == "basic" else "; a load no longer looks for what to fuse"
        notes = [f"{before.total()} operators became {len(after.graph.node)}{fused}."]
        turns = sum(node.op_type == "Transpose" for node in after.graph.node)
        notes += [f"Transposes: {before['Transpose']} became {turns}."] if turns != before["Transpose"] else []
        notes += [f"Laid out for {self.cpu}: elsewhere it is not loaded."] if _is_laid_out(after) else []
        return Passed("model.onnx", tuple(notes))


def _optimised(model: Path, into: Path, level: Level) -> None:
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    chosen = {"basic": levels.ORT_ENABLE_BASIC, "extended": levels.ORT_ENABLE_EXTENDED, "all": levels.ORT_ENABLE_ALL}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = chosen[level]
    options.optimized_model_filepath = os.fspath(into)
    try:
        ort.InferenceSession(os.fspath(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # Its bindings raise classes of their own, which have no common base.
        raise PassFailed(f"ONNX Runtime cannot load this graph: {type(error).__name__}.") from error


def _keep_used_domains(model: onnx.ModelProto) -> None:
    """It declares every domain that it knows; whoever reads the file shall see those that it needs."""
    used = {"", *_domains(model.graph), *(node.domain for function in model.functions for node in function.node)}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _domains(graph: onnx.GraphProto) -> set[str]:
    found = set()
    for node in graph.node:
        found.add(node.domain)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= _domains(inner)
    return found


def _is_laid_out(model: onnx.ModelProto) -> bool:
    return any(entry.domain == LAYOUT_DOMAIN for entry in model.opset_import)


def offlines(cpu: str) -> tuple[Offline, ...]:
    """As the last step after whatever else was done to a graph: for any engine, for any machine, and for those of this kind."""
    return (Offline("basic"), Offline("extended"), Offline("all", cpu))
