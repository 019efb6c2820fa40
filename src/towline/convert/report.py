"""What an import found, for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from towline.convert import wording
from towline.convert.inspected import Inspected
from towline.core.manifest import Facts, Handler, Manifest, TensorSpec

_TOP_OPERATORS = 6


@dataclass(frozen=True)
class ImportReport:
    """Digest and size in bytes of the sealed version, what its manifest says, and sentences about what deserves a look."""

    digest: str
    size_bytes: int
    manifest: Manifest
    warnings: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Aligned lines `what  value`, then one line per note."""
        manifest, measured = self.manifest, self.manifest.measured
        rows = [
            ("digest", self.digest),
            *(_graph(self.size_bytes, manifest.facts) if manifest.handler is None else _handler(self.size_bytes, manifest.handler)),
            *_specs("input", manifest.signature.inputs),
            *_specs("output", manifest.signature.outputs),
            *([("processing", manifest.processing.words())] if manifest.processing else []),
            ("batching", _batching(manifest)),
            *(("padding", line) for line in manifest.padding_words()),
            ("answers", "the same every time" if measured.deterministic else "differ from run to run"),
            (
                "memory",
                f"{bytes_for_people(measured.memory_loaded_bytes)} loaded, "
                f"{bytes_for_people(measured.memory_peak_bytes)} at a batch of {measured.max_batch}",
            ),
            ("golden", f"{len(manifest.golden)} request{'s'[: len(manifest.golden) != 1]}, replayed at every load"),
        ]
        width = max(len(what) for what, _ in rows)
        return [f"{what:<{width}}  {value}" for what, value in rows] + [f"note: {warning}" for warning in self.warnings]

    def as_json(self) -> dict[str, object]:
        """Plain JSON for --json and for the import event."""
        manifest = self.manifest
        return {
            "digest": self.digest,
            "size_bytes": self.size_bytes,
            "parameters": manifest.facts.parameters,
            "operators": manifest.facts.operators,
            "opset": manifest.facts.opset,
            "inputs": [_spec_json(spec) for spec in manifest.signature.inputs],
            "outputs": [_spec_json(spec) for spec in manifest.signature.outputs],
            "batchable": manifest.batchable,
            "unbatchable_because": manifest.unbatchable_because,
            "padding": list(manifest.padding_words()),
            "deterministic": manifest.measured.deterministic,
            "memory_loaded_bytes": manifest.measured.memory_loaded_bytes,
            "memory_peak_bytes": manifest.measured.memory_peak_bytes,
            "max_batch": manifest.measured.max_batch,
            "golden": len(manifest.golden),
            "warnings": list(self.warnings),
        }


def import_report(digest: str, size_bytes: int, manifest: Manifest, inspected: Inspected, notes: tuple[str, ...] = ()) -> ImportReport:
    """`notes` are those of the smoke test."""
    return ImportReport(digest, size_bytes, manifest, (*inspected.warnings, *notes))


def bytes_for_people(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if size >= 10 or unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _graph(size_bytes: int, facts: Facts) -> list[tuple[str, str]]:
    size = [("size", f"{bytes_for_people(size_bytes)}, {facts.parameters:,} parameters")]
    if not facts.operators:
        # What only its own framework reads.
        return size
    return [
        *size,
        ("operators", _operators(facts.operators)),
        ("opset", ", ".join(f"{wording.name(domain)[1:-1]} {version}" for domain, version in sorted(facts.opset.items()))),
    ]


def _handler(size_bytes: int, handler: Handler) -> list[tuple[str, str]]:
    traits = {
        "answers in parts": handler.streams,
        "may run twice": handler.idempotent,
        "keeps state": handler.stateful,
        f"{handler.max_concurrent} at once": handler.max_concurrent > 1,
    }
    said = [trait for trait, holds in traits.items() if holds]
    return [("size", bytes_for_people(size_bytes)), ("handler", ", ".join([f"class {handler.class_name}", *said]))]


def _batching(manifest: Manifest) -> str:
    if not manifest.batchable:
        return f"never: {manifest.unbatchable_because}"
    if manifest.handler is not None and manifest.handler.passes_body:
        return f"up to {manifest.measured.max_batch} at once: the handler says so"
    return "each row is answered for itself: proven"


def _operators(operators: dict[str, int]) -> str:
    most = sorted(operators.items(), key=lambda item: (-item[1], item[0]))
    shown = ", ".join(f"{count} {name}" for name, count in most[:_TOP_OPERATORS])
    return f"{sum(operators.values())}: {shown}{', …' if len(most) > _TOP_OPERATORS else ''}"


def _specs(what: str, specs: tuple[TensorSpec, ...]) -> list[tuple[str, str]]:
    return [(what, f"{spec.name}  {spec.dtype} {_shape(spec)}") for spec in specs]


def _shape(spec: TensorSpec) -> str:
    return "of any shape" if spec.shape is None else f"[{', '.join(map(str, spec.shape))}]"


def _spec_json(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": None if spec.shape is None else list(spec.shape)}
