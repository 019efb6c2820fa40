"""Attention, layer norms and GELU of a transformer as one operator each, by ONNX Runtime's optimiser of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from towline.optimize.base import Material, Passed, PassFailed

# What it could make one operator of, as ONNX Runtime's domain com.microsoft has them.
_READ = ("Attention", "MultiHeadAttention", "EmbedLayerNormalization", "SkipLayerNormalization", "BiasGelu", "FastGelu", "Gelu")


@dataclass(frozen=True)
class Fuse:
    """Most of these ONNX Runtime fuses while it loads; this pass knows more forms of attention. What it writes cannot be trained any more,
    and only ONNX Runtime runs it. `heads` 0: as the graph tells."""

    heads: int = 0

    name = "fuse"
    environment = ""

    @property
    def settings(self) -> str:
        return "attention, layer norms, GELU" + (f", {self.heads} heads" if self.heads else "")

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        from onnxruntime.transformers.optimizer import optimize_model

        try:
            fused = optimize_model(str(model), model_type="bert", num_heads=self.heads, hidden_size=0, opt_level=0)
        except (ValueError, RuntimeError, KeyError, IndexError, TypeError, AttributeError, AssertionError) as error:
            raise PassFailed(f"ONNX Runtime's optimiser cannot read this graph: {type(error).__name__}.") from error
        counts = {name: count for name, count in fused.get_fused_operator_statistics().items() if count and name in _READ}
        if not counts:
            raise PassFailed("This graph has no attention, layer norm or GELU in a form that can be one operator.")
        fused.save_model_to_file(str(into / "model.onnx"))
        told = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        return Passed("model.onnx", (f"There are now {told}.",))
