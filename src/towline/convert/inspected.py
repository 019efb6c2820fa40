"""What reading a model tells: the value that the inspecting process hands back. No onnx here, so both sides import it cheaply."""

from __future__ import annotations

from dataclasses import dataclass, field

from towline.core.manifest import Signature

# A report larger than this was not written by us in good faith.
MAX_REPORT_BYTES = 32 << 20


@dataclass(frozen=True)
class Inspected:
    """Read from the graph, nothing run.

    `unnamed` are the symbols we gave to dims that the model leaves open without a name. `warnings` are sentences for the report.
    `makers` tells which operator makes each output.
    """

    signature: Signature
    unnamed: tuple[str, ...]
    parameters: int
    operators: dict[str, int]
    opset: dict[str, int]
    ir_version: int
    producer: str
    functions: int
    onnx_version: str
    warnings: tuple[str, ...] = ()
    makers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """Why the model may not be imported, in the words of an ImportRefused."""

    code: str
    message: str
    hint: str = ""
    field: str = ""


@dataclass(frozen=True)
class Report:
    """Exactly one of the two is set."""

    inspected: Inspected | None = None
    refusal: Refusal | None = None
