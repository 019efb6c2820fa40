"""How a staged model came to be from a foreign source; of an ONNX file nothing of this is set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from towline.convert.feature_defaults import Defaults
from towline.convert.inspected import Inspected
from towline.core.manifest import DEFAULT_SIGNATURE, Signature

ONNX_ENGINE = "onnxruntime"


@dataclass(frozen=True)
class Made:
    """`signatures` are all there are, by name; `model_files` name the file of each but the default one, where files differ.

    `format` says what the source was, `tools` what took part, `source_digest` names the source. `feature_defaults`
    are what stands for features that a tf.Example lacks.
    """

    format: str = ""
    source_digest: str = ""
    engine: str = ONNX_ENGINE
    environment: str = ""
    signatures: Mapping[str, Signature] = field(default_factory=dict)
    model_files: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    feature_defaults: Defaults = field(default_factory=dict)

    @property
    def default(self) -> str:
        """The name of the signature that a request means when it names none."""
        return default_of(self.signatures)


def default_of(signatures: Mapping[str, Signature]) -> str:
    """As `Manifest.signature_names` orders them."""
    return min(signatures, key=lambda name: (name != DEFAULT_SIGNATURE, name)) if signatures else DEFAULT_SIGNATURE


def unread(signature: Signature, parameters: int) -> Inspected:
    """What is known of a model that only its own framework reads: no operators, no opset."""
    return Inspected(
        signature=signature,
        unnamed=(),
        parameters=parameters,
        operators={},
        opset={},
        ir_version=0,
        producer="",
        functions=0,
        onnx_version="",
    )
