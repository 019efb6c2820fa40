"""What a version says of itself: `manifest.json`. Its JSON schema is published in docs/reference/manifest.schema.json."""

from __future__ import annotations

from typing import Literal

import msgspec

from towline.core.errors import VersionError

FORMAT = 1
DEFAULT_SIGNATURE = "serving_default"
# Beside it, where processing is declared: the bare graph.
TENSORS_SIGNATURE = "tensors"
# NaN and infinities by name, which JSON has no word for.
DefaultValue = int | float | str


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named input or output. A dim is a size, or a symbol that stands for the same size wherever it appears.

    `shape` is None when the model does not even tell the rank. `dtype` is a name from core/dtypes.py.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Bound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far an answer of the same version may lie from the golden one: |got - golden| <= absolute + relative * |golden|."""

    absolute: float
    relative: float


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One request and this version's own answer, as frames (core/frames.py) in the version's folder."""

    request: str
    response: str
    bounds: dict[str, Bound]


class Measured(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What import measured, and on what kind of CPU. Memory in bytes, rounded up, of the whole worker beyond an empty one."""

    cpu: str
    deterministic: bool
    memory_loaded_bytes: int
    memory_peak_bytes: int
    max_batch: int


class Origin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the version came from. Who, when and why are in the import event, so that the same bytes give the same digest."""

    format: str
    source_digest: str
    tools: dict[str, str] = {}
    training: dict[str, str | int | float | bool] | None = None
    packages: tuple[str, ...] | None = None


class Step(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One declared step of processing around the graph, with every setting spelled out (core/steps.py)."""

    kind: str
    settings: dict[str, str | int | float | bool | list[str | float]] = {}


class Processing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the worker does before and after the graph."""

    before: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.before or self.after)

    def words(self) -> str:
        """In one line, for people."""
        return " · ".join([*(step.kind for step in self.before), "the graph", *(step.kind for step in self.after)])


class Handler(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user's own class says of itself (docs/reference/handler.md), as far as those must know who never import it.

    `passes_body`: it declared no signature, and `/predict` hands it bodies and answers with what it gives. `takes` is what it reads a
    body as, `media_type` what its answers are. `python` is the interpreter of the environment that it needs; empty means ours.
    """

    class_name: str
    streams: bool = False
    idempotent: bool = False
    stateful: bool = False
    max_concurrent: int = 1
    timeout_s: float | None = None
    passes_body: bool = False
    takes: Literal["json", "bytes"] = "json"
    media_type: str = "application/json"
    python: str = ""


class PaddedInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written behind a row that is shorter than the run it shares: `value`, along `axis` (0 is the batch)."""

    name: str
    axis: int
    value: int | float = 0


class CutOutput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An output that grows with the padding: along `axis` only what is the row's own is answered."""

    name: str
    axis: int


class Padding(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dim along which rows of unlike length were shown to keep their answers when the shorter are padded.

    `dim` is the inputs' symbol. Shown for lengths from `shortest` to `longest`. `gap` is the widest that a padded row's answer lay from
    the same row's alone, as a share of its greatest magnitude, up to the next power of two.
    """

    dim: str
    inputs: tuple[PaddedInput, ...]
    outputs: tuple[CutOutput, ...]
    shortest: int
    longest: int
    gap: float

    def words(self) -> str:
        """In one line, for people."""
        filled = ", ".join(f"{one.name} with {one.value}" for one in self.inputs)
        cut = ", ".join(one.name for one in self.outputs)
        return f"'{self.dim}' from {self.shortest} to {self.longest}: {filled}{f'; cut back: {cut}' if cut else ''}{self._by()}"

    def _by(self) -> str:
        return f"; answers within {100 * self.gap:.2g} % of their range" if self.gap else "; answers equal to the last bit"


class Facts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Read from the graph, for people: number of parameters, operator counts, opset per domain."""

    parameters: int
    operators: dict[str, int]
    opset: dict[str, int]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]
    engine: str
    model_file: str
    signatures: dict[str, Signature]
    batchable: bool
    origin: Origin
    facts: Facts
    measured: Measured
    golden: tuple[Golden, ...] = ()
    labels: str | None = None
    processing: Processing = Processing()
    parents: tuple[str, ...] = ()
    handler: Handler | None = None
    # The environment (core/environments.py) whose Python runs it; empty for what runs in ours.
    environment: str = ""
    # The model file of each signature that has one of its own; the default one's is `model_file`.
    model_files: dict[str, str] = {}
    # What the framework it was converted from answers, and how far this version's answers were allowed to lie from that.
    source_answers: tuple[Golden, ...] = ()
    # Why a model is never merged with another request, when it is not; for `towline show`.
    unbatchable_because: str = ""
    # Along which dims requests of unlike length may share a run, and why along others they may not.
    padding: tuple[Padding, ...] = ()
    unpadded_because: dict[str, str] = {}
    # By signature and input, the values of one row, flat: what stands for a feature that a tf.Example lacks. Unwritten where none is.
    feature_defaults: dict[str, dict[str, tuple[DefaultValue, ...]]] | msgspec.UnsetType = msgspec.UNSET

    @property
    def signature(self) -> Signature:
        """The signature used when a request names none: `serving_default`, else the first by name."""
        return self.signatures[self.signature_names[0]]

    @property
    def signature_names(self) -> tuple[str, ...]:
        """The default signature's name, then the others by name. Front and worker tell signatures by their place in it."""
        names = sorted(self.signatures)
        return tuple(sorted(names, key=lambda name: name != DEFAULT_SIGNATURE))

    def defaults_of(self, signature: str) -> dict[str, tuple[DefaultValue, ...]]:
        """By input, of the signature called so; the default one may be called by an empty name."""
        return (self.feature_defaults or {}).get(signature or self.signature_names[0], {})

    def padding_words(self) -> tuple[str, ...]:
        """For people, a line for each dim beyond the batch in which requests may differ: how it is padded, or why not."""
        unpadded = (f"not '{dim}': {why}" for dim, why in self.unpadded_because.items())
        return (*(one.words() for one in self.padding), *unpadded)

    def bare(self) -> Manifest:
        """The graph alone, without what is declared around it."""
        signatures = {DEFAULT_SIGNATURE: self.signatures[TENSORS_SIGNATURE]}
        return msgspec.structs.replace(self, signatures=signatures, processing=Processing(), padding=(), unpadded_because={})


def encode_manifest(manifest: Manifest) -> bytes:
    """Canonical bytes: equal manifests give equal bytes, hence equal digests."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def decode_manifest(raw: bytes) -> Manifest:
    try:
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise VersionError(
            f"manifest.json is not a manifest this Towline reads: {error}.",
            code="BAD_MANIFEST",
            hint="It was written by another release, or changed by hand. Import the model again.",
        ) from error
