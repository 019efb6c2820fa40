"""A process of its own that reads one model and prints what it found as JSON: `python -P -m towline.convert.inspect PATH SECONDS`.

Whatever the file holds, only this process can suffer: memory, CPU time, output and wall time are limited before the first byte is read.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from towline.convert.inspected import MAX_REPORT_BYTES, Inspected, Refusal, Report
from towline.core.errors import ImportRefused

if TYPE_CHECKING:
    import onnx

# What Python, numpy and onnx map before they see a model.
_BASE_BYTES = 3 << 30
# The file, its parsed form, and the checker's own copy and parsed form, which is larger.
_COPIES = 6
# Beyond this, type and shape inference costs more time than its warning is worth; the engine does its own.
_FULL_CHECK_BYTES = 64 << 20


def main(arguments: list[str]) -> int:
    path, seconds = Path(arguments[0]), int(arguments[1])
    limit(path.stat().st_size, seconds, file_bytes=MAX_REPORT_BYTES)
    report = _report(path)
    import msgspec

    sys.stdout.buffer.write(msgspec.json.encode(report))
    sys.stdout.buffer.flush()
    return 0


def limit(size_bytes: int, seconds: int, *, file_bytes: int) -> None:
    """Hold this process to what reading a model of `size_bytes` may take, and to `file_bytes` in what it writes."""
    memory = _BASE_BYTES + _COPIES * size_bytes
    for what, soft, hard in (
        (resource.RLIMIT_AS, memory, memory),
        # One second between the two, so that the signal tells what happened.
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, file_bytes, file_bytes),
    ):
        given = resource.getrlimit(what)[1]
        most = hard if given == resource.RLIM_INFINITY else min(hard, given)
        resource.setrlimit(what, (min(soft, most), most))
    # Ends this process also when whoever waits for it has gone.
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)


def _report(path: Path) -> Report:
    """Every way in which reading can fail becomes a refusal: this is the outermost frame of the process."""
    from towline.convert import wording

    folder = str(path.parent)
    try:
        return Report(inspected=_inspect(path))
    except ImportRefused as refusal:
        return Report(refusal=Refusal(refusal.code, refusal.message, refusal.hint, refusal.field))
    except MemoryError:
        return Report(refusal=Refusal("TOO_LARGE", "Reading the model needs more memory than its size allows for."))
    except UnicodeDecodeError:
        return Report(refusal=Refusal("INVALID_GRAPH", "A name in the model is not text (UTF-8).", "Export the model again."))
    except RecursionError:
        return Report(refusal=Refusal("LIMIT_EXCEEDED", "The model's parts lie too deep in one another."))
    except Exception as error:
        said = wording.sentence(f"{type(error).__name__}: {error}", hidden=(str(path), folder))
        return Report(refusal=Refusal("INVALID_GRAPH", f"The model cannot be read: {said}", "Export the model again."))


def _inspect(path: Path) -> Inspected:
    import onnx

    from towline.convert.graph import take_census
    from towline.convert.signature import read_signature
    from towline.convert.unbounded import unbounded_warnings

    raw = path.read_bytes()
    model = _parsed(raw)
    sizes = _external_sizes(path.parent, path.name)
    census = take_census(model, sizes)
    signature, unnamed = read_signature(model.graph)
    warnings = (*_checked(path, raw, has_external=bool(sizes)), *unbounded_warnings(model.graph))
    return Inspected(
        signature=signature,
        unnamed=unnamed,
        parameters=census.parameters,
        operators={name: census.operators[name] for name in sorted(census.operators)},
        opset={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        ir_version=model.ir_version,
        producer=_producer(model),
        functions=len(model.functions),
        onnx_version=onnx.__version__,
        warnings=warnings,
        makers=_makers(model),
    )


def _parsed(raw: bytes) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    model = onnx.ModelProto()
    try:
        model.ParseFromString(raw)
    except DecodeError as error:
        if "MaxDepth" in str(error):
            raise RecursionError from None
        raise ImportRefused(
            "The model is damaged: it is no valid protobuf.", code="TORN_FILE", hint="Copy, download or export it again."
        ) from None
    return model


def _external_sizes(folder: Path, model_name: str) -> dict[str, int]:
    """The files that were copied along with the model, all plain: by path relative to the model."""
    sizes = {}
    for root, _, names in os.walk(folder):
        for name in names:
            place = Path(root, name)
            sizes[place.relative_to(folder).as_posix()] = place.lstat().st_size
    sizes.pop(model_name, None)
    return sizes


def _checked(path: Path, raw: bytes, *, has_external: bool) -> tuple[str, ...]:
    """Run onnx's own checker. Shape inference only warns: the engine is the judge of shapes, and the smoke test of the engine."""
    import onnx
    from onnx import checker, shape_inference

    from towline.convert import wording

    hidden = (f"{path.parent}/", str(path.parent))
    try:
        if has_external:
            checker.check_model(str(path))
        else:
            checker.check_model(raw)
        if len(raw) <= _FULL_CHECK_BYTES:
            shape_inference.infer_shapes(onnx.load_model_from_string(raw), check_type=True, strict_mode=True)
    except checker.ValidationError as error:
        said = wording.sentence(str(error), hidden=hidden)
        if "No Op registered for" in said or "No opset import for domain" in said:
            return (f"onnx does not know an operator that the engine may know: {said}",)
        raise ImportRefused(f"The model is not valid ONNX: {said}", code="INVALID_GRAPH", hint="Export the model again.") from None
    except shape_inference.InferenceError as error:
        return (f"The model's types or shapes contradict themselves: {wording.sentence(str(error), hidden=hidden)}",)
    return ()


def _makers(model: onnx.ModelProto) -> dict[str, str]:
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {output.name: makers[output.name] for output in model.graph.output if output.name in makers}


def _producer(model: onnx.ModelProto) -> str:
    from towline.convert import wording

    return wording.name(f"{model.producer_name} {model.producer_version}".strip())[1:-1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
