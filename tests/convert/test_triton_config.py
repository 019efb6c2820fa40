"""A model configuration of Triton's: what is honoured is honoured, what would change answers is refused, the rest is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from towline.convert.triton_config import numbers_for, read_triton_config
from towline.core.deployment import Limits, Policy
from towline.core.errors import InvalidRequest
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec

MANIFEST = Manifest(
    format=1,
    engine="onnxruntime",
    model_file="model.onnx",
    signatures={"serving_default": Signature((TensorSpec("x", "float32", ("n", 10)),), (TensorSpec("y", "string", ("n", 3)),))},
    batchable=True,
    origin=Origin("onnx", "sha256:0"),
    facts=Facts(0, {}, {}),
    measured=Measured("test", True, 0, 0, 256),
)


def read(**config: Any) -> Any:
    return read_triton_config(json.dumps(config), "mlp")


def test_an_empty_configuration_leaves_all_to_the_server() -> None:
    config = read()
    assert (config.policy, config.limits, config.notes) == (None, Limits(), ())


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ({"latest": {"num_versions": 2}}, Policy("latest", count=2)),
        ({"latest": {"numVersions": "3"}}, Policy("latest", count=3)),
        ({"latest": {}}, Policy("latest")),
        ({"all": {}}, Policy("all")),
        ({"specific": {"versions": [3, "1"]}}, Policy("specific", numbers=(3, 1))),
    ],
)
def test_a_version_policy_is_read(written: object, policy: Policy) -> None:
    assert read(version_policy=written).policy == policy
    assert read(versionPolicy=written).policy == policy


@pytest.mark.parametrize(
    ("config", "limits"),
    [
        ({"max_batch_size": 8}, Limits(max_batch=8)),
        ({"max_batch_size": "8"}, Limits(max_batch=8)),
        # A model without a batch dimension is never merged.
        ({"max_batch_size": 0}, Limits(max_batch=1)),
        ({"dynamic_batching": {"default_queue_policy": {"max_queue_size": 5}}}, Limits(max_waiting_requests=5)),
        ({"dynamicBatching": {"defaultQueuePolicy": {"maxQueueSize": 5}}}, Limits(max_waiting_requests=5)),
        ({"dynamic_batching": {"default_queue_policy": {"default_timeout_microseconds": 250_000}}}, Limits(timeout_s=0.25)),
    ],
)
def test_limits_are_read(config: dict[str, Any], limits: Limits) -> None:
    assert read(**config).limits == limits


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"instance_group": [{"count": 2}]}, "instance_group"),
        ({"dynamic_batching": {"max_queue_delay_microseconds": 100}}, "max_queue_delay_microseconds"),
        ({"dynamic_batching": {"preferred_batch_size": [4]}}, "preferred_batch_size"),
        ({"optimization": {"graph": {"level": 1}}}, "optimization"),
        ({"model_warmup": [{"name": "w"}]}, "model_warmup"),
    ],
)
def test_what_has_no_meaning_here_is_told_with_the_reason(config: dict[str, Any], said: str) -> None:
    (note,) = read(**config).notes
    assert said in note
    assert ": " in note


REFUSED: dict[str, tuple[object, str]] = {
    "text that is no JSON": ("{", "no JSON"),
    "nesting without end": ("[" * 100_000, "no JSON"),
    "a list": ("[]", "JSON object"),
    "a configuration without end": ("{" + " " * (1 << 20) + "}", "longer"),
    "another model's": ({"name": "other"}, "not of 'mlp'"),
    "another platform": ({"platform": "tensorflow_savedmodel"}, "onnxruntime"),
    "another backend": ({"backend": "python"}, "onnxruntime"),
    "another file": ({"default_model_filename": "net.onnx"}, "model.onnx"),
    "an ensemble": ({"ensemble_scheduling": {"step": [{}]}}, "change what requests are answered"),
    "sequences": ({"sequence_batching": {"max_sequence_idle_microseconds": 1}}, "change what requests are answered"),
    "an agent": ({"model_repository_agents": {"agents": [{"name": "decrypt"}]}}, "change what requests are answered"),
    "streams": ({"model_transaction_policy": {"decoupled": True}}, "change what requests are answered"),
    "a field misspelt": ({"max_batchsize": 4}, "no field"),
    "a negative batch": ({"max_batch_size": -1}, "whole number"),
    "a batch that is true": ({"max_batch_size": True}, "whole number"),
    "two policies": ({"version_policy": {"all": {}, "latest": {}}}, "one of"),
    "a policy that names nothing": ({"version_policy": {"specific": {"versions": []}}}, "names versions"),
    "version zero": ({"version_policy": {"specific": {"versions": [0]}}}, "whole number"),
    "batching that is a list": ({"dynamic_batching": [1]}, "object"),
    "a batching field misspelt": ({"dynamic_batching": {"max_delay": 1}}, "no field"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_not_be_served_as_written_is_refused_by_name(name: str) -> None:
    written, said = REFUSED[name]
    with pytest.raises(InvalidRequest, match=said) as raised:
        read_triton_config(written if isinstance(written, str) else json.dumps(written), "mlp")
    assert raised.value.code == "BAD_CONFIG"


X = {"name": "x", "data_type": "TYPE_FP32", "dims": [10]}


@pytest.mark.parametrize(
    "config",
    [
        {"max_batch_size": 8, "input": [X], "output": [{"name": "y", "data_type": "TYPE_STRING", "dims": ["3"]}]},
        {"input": [{**X, "dims": [-1, 10]}]},
        {"max_batch_size": 8, "input": [{**X, "dims": [-1]}]},
        {},
    ],
)
def test_tensors_that_are_the_models_are_taken(config: dict[str, Any]) -> None:
    read(**config).check(MANIFEST)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ({**X, "name": "z"}, "no input 'z'"),
        ({**X, "data_type": "TYPE_INT64"}, "is FP32"),
        ({**X, "dims": [11]}, "do not fit"),
        ({**X, "dims": [-1, 10]}, "do not fit"),
        ({**X, "reshape": {"shape": [2, 5]}}, "reshape"),
    ],
)
def test_tensors_that_are_not_the_models_are_refused(tensor: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read(max_batch_size=4, input=[tensor]).check(MANIFEST)


def test_the_latest_of_the_versions_that_were_sent_is_served_unless_the_policy_says_otherwise() -> None:
    assert numbers_for(None, (1, 2)) == (2,)
    assert numbers_for(Policy("all"), (1, 2)) == (1, 2)
    with pytest.raises(InvalidRequest, match="chooses none"):
        numbers_for(Policy("specific", numbers=(3,)), (1, 2))
