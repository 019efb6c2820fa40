"""`towline show`: what is known of a version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from towline.app.listing import Shown
from towline.app.showing import Told, html_of, lineage, proof, tell
from towline.cli.output import emit, emit_json, moment_words, printable, size_words
from towline.cli.pages import write_page
from towline.cli.params import RefParam, home_option, json_option
from towline.core.refs import Ref

if TYPE_CHECKING:
    from towline.core.manifest import Manifest, TensorSpec


@click.command("show")
@click.argument("ref", type=RefParam())
@click.option("--html", metavar="FILE", help="Also write a page with plots and the graph's operators, which needs no network.")
@home_option
@json_option
def command(ref: Ref, html: str | None, home: str | None, as_json: bool) -> None:
    """Show what is known of a version: REF is digits, digits:3, digits@champion or sha256:1b77…."""
    told = tell(ref, home=home)
    facts = [("version", str(told.shown.version)), *_facts(told.shown)]
    if html:
        write_page(Path(html), html_of(told, [(name.strip(), value) for name, value in facts]))
    if as_json:
        emit_json("towline.show/1", _shown_json(told))
        return
    facts += [row for row in lineage(told) if row[0] not in ("source", "from")]
    facts += [("parity", line) for line in proof(told)]
    facts += [("report", note) for note in told.notes]
    margin = max(len(name) for name, _ in facts) + 2
    for name, value in facts:
        emit(f"{name:<{margin}}{printable(value)}")


def _facts(shown: Shown) -> list[tuple[str, str]]:
    version, manifest = shown.version, shown.manifest
    measured = manifest.measured
    facts = [
        ("digest", version.digest),
        ("aliases", ", ".join(shown.aliases) or "-"),
        ("created", moment_words(version.created_s)),
        ("files", f"{version.path} ({size_words(version.size_bytes)})"),
        ("engine", f"{manifest.engine}, from {manifest.origin.format}"),
    ]
    for name, signature in sorted(manifest.signatures.items()):
        facts.append(("signature", name))
        facts += [("  input", tensor_words(spec)) for spec in signature.inputs]
        facts += [("  output", tensor_words(spec)) for spec in signature.outputs]
    if manifest.processing:
        facts.append(("processing", manifest.processing.words()))
    facts += [
        ("parameters", f"{manifest.facts.parameters:,}"),
        ("opset", ", ".join(f"{domain or 'ai.onnx'} {number}" for domain, number in sorted(manifest.facts.opset.items())) or "-"),
        ("operators", ", ".join(f"{name} {count}" for name, count in sorted(manifest.facts.operators.items())) or "-"),
        ("labels", manifest.labels or "-"),
        ("batchable", f"yes, up to {measured.max_batch} rows" if manifest.batchable else f"no: {_why_alone(manifest)}"),
        *(("padding", line) for line in manifest.padding_words()),
        ("repeatable", "yes" if measured.deterministic else "no: equal inputs gave different answers"),
        ("memory", f"{size_words(measured.memory_loaded_bytes)} loaded, {size_words(measured.memory_peak_bytes)} at most"),
        ("measured on", measured.cpu),
        ("golden", f"{len(manifest.golden)} requests"),
        ("source", manifest.origin.source_digest),
    ]
    return facts


def _why_alone(manifest: Manifest) -> str:
    return manifest.unbatchable_because or "import could not prove that rows do not change one another's answers"


def tensor_words(spec: TensorSpec) -> str:
    """`image float32[N,1,8,8]`; `[…]` when the rank is unknown."""
    shape = "…" if spec.shape is None else ",".join(str(dim) for dim in spec.shape)
    return f"{spec.name} {spec.dtype}[{shape}]"


def _shown_json(told: Told) -> dict[str, object]:
    import msgspec

    shown, event = told.shown, told.imported
    version = shown.version
    return {
        "name": version.name,
        "version": version.number,
        "digest": version.digest,
        "aliases": list(shown.aliases),
        "size_bytes": version.size_bytes,
        "created_s": version.created_s,
        "path": str(version.path),
        "manifest": msgspec.to_builtins(shown.manifest),
        "imported": None if event is None else {"actor": event.actor, "at_s": event.at_s, "why": event.why, "data": event.data},
    }
