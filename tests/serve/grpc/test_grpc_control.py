"""Triton's and TF Serving's clients look into a server and change it over gRPC: the same questions to the Control as over REST."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from asking import Asking
from calling import CODES, Refused
from plane import HonestPlane, version

from towline.core.errors import Kind, TowlineError
from towline.serve.codecs.check import Limits
from towline.serve.contract import Asked, Loaded, WishedModel
from towline.serve.protocols.grpc.contract import Call, Refusal
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.service import Service
from towline.testing import tiny_models

TRITON = "inference.GRPCInferenceService"
PEER = "ipv4:192.0.2.7:4711"


class Desk:
    def __init__(self) -> None:
        self.control = Asking()
        self._methods = Service(HonestPlane(version("mlp", tiny_models.mlp())), Limits(), control=self.control).methods.unary

    def ask(self, name: str, request: Any, answer: str, peer: str | Callable[[], str] = PEER) -> Any:
        result = asyncio.run(self._ask(name, request, peer))
        if isinstance(result, Refusal):
            raise Refused(CODES[result.code], result.message, result.trailers)
        return MESSAGES[answer].FromString(result)

    async def _ask(self, name: str, request: Any, peer: str | Callable[[], str]) -> bytes | Refusal:
        answer: asyncio.Future[bytes | Refusal] = asyncio.get_running_loop().create_future()
        self._methods[f"/{name}"](request.SerializeToString(), Call(time.monotonic(), peer=peer), answer.set_result)
        return await asyncio.wait_for(answer, 5)

    def triton(self, method: str, /, **fields: Any) -> Any:
        return self.ask(f"{TRITON}/{method}", MESSAGES[f"inference.{method}Request"](**fields), f"inference.{method}Response")

    def reload(self, *models: dict[str, Any]) -> Any:
        request = MESSAGES["tensorflow.serving.ReloadConfigRequest"]()
        request.config.model_config_list.SetInParent()
        for model in models:
            request.config.model_config_list.config.add(**model)
        return self.ask("tensorflow.serving.ModelService/HandleReloadConfigRequest", request, "tensorflow.serving.ReloadConfigResponse")


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_the_index_is_the_one_of_rest(desk: Desk) -> None:
    told = desk.triton("RepositoryIndex")
    assert [(one.name, one.version, one.state, one.reason) for one in told.models] == [
        ("mlp", "1", "READY", ""),
        ("mlp", "2", "UNAVAILABLE", "It broke."),
        ("idle", "", "UNAVAILABLE", "not loaded"),
    ]
    assert [one.name for one in desk.triton("RepositoryIndex", ready=True).models] == ["mlp"]


@pytest.mark.parametrize("peer", [PEER, lambda: PEER, "192.0.2.7:4711"])
def test_a_load_takes_files_as_bytes_and_says_who_asked(desk: Desk, peer: Any) -> None:
    request = MESSAGES["inference.RepositoryModelLoadRequest"](model_name="mlp")
    request.parameters["config"].string_param = "{}"
    request.parameters["file:1/model.onnx"].bytes_param = b"\0model"
    desk.ask(f"{TRITON}/RepositoryModelLoad", request, "inference.RepositoryModelLoadResponse", peer)

    assert desk.control.asked == [("load", "mlp", Asked(config="{}", files={"1/model.onnx": b"\0model"}), "openinference-grpc 192.0.2.7")]


def test_a_load_names_a_version_by_number_or_text(desk: Desk) -> None:
    for kind, value in (("int64_param", 3), ("string_param", "3")):
        request = MESSAGES["inference.RepositoryModelLoadRequest"](model_name="mlp")
        setattr(request.parameters["version"], kind, value)
        desk.ask(f"{TRITON}/RepositoryModelLoad", request, "inference.RepositoryModelLoadResponse")

    assert [asked[2] for asked in desk.control.asked] == [Asked(3), Asked(3)]


def test_an_unload_asks_for_dependents_that_no_model_has(desk: Desk) -> None:
    request = MESSAGES["inference.RepositoryModelUnloadRequest"](model_name="mlp")
    request.parameters["unload_dependents"].bool_param = False
    desk.ask(f"{TRITON}/RepositoryModelUnload", request, "inference.RepositoryModelUnloadResponse")

    assert desk.control.asked == [("unload", "mlp", "openinference-grpc 192.0.2.7")]


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("url", grpc.StatusCode.PERMISSION_DENIED, "PLACE_NOT_ALLOWED"),
        ("file:../m", grpc.StatusCode.INVALID_ARGUMENT, "BAD_FILE_NAME"),
        ("replicas", grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_PARAMETER"),
        # A choice that was never made.
        ("config", grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    ],
)
def test_a_bad_load_is_refused_before_anybody_is_asked(desk: Desk, name: str, status: grpc.StatusCode, code: str) -> None:
    request = MESSAGES["inference.RepositoryModelLoadRequest"](model_name="mlp")
    request.parameters[name].SetInParent()
    if name.startswith("file:"):
        request.parameters[name].bytes_param = b"x"
    with pytest.raises(Refused) as raised:
        desk.ask(f"{TRITON}/RepositoryModelLoad", request, "inference.RepositoryModelLoadResponse")

    assert (raised.value.status, raised.value.code, desk.control.asked) == (status, code, [])


@pytest.mark.parametrize("name", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_what_the_control_refuses_is_told_with_its_status(desk: Desk, name: str) -> None:
    desk.control.refusal = TowlineError("No.", kind=Kind.DENIED, hint="--model-control explicit")
    with pytest.raises(Refused, match=r"PERMISSION_DENIED: No\. --model-control explicit"):
        desk.triton(name, model_name="mlp")


def test_a_client_that_leaves_no_longer_waits(desk: Desk) -> None:
    async def leave() -> list[Any]:
        answers: list[Any] = []

        async def never(name: str, asked: Asked, *, actor: str) -> Loaded:
            await asyncio.Event().wait()
            raise AssertionError

        desk.control.load = never  # type: ignore[method-assign]
        method = desk._methods[f"/{TRITON}/RepositoryModelLoad"]
        cancel = method(MESSAGES["inference.RepositoryModelLoadRequest"]().SerializeToString(), Call(0.0), answers.append)
        await asyncio.sleep(0)
        assert cancel is not None
        cancel()
        await asyncio.sleep(0)
        return [*answers, *(task for task in asyncio.all_tasks() if task is not asyncio.current_task())]

    assert asyncio.run(leave()) == []


def test_statistics_are_the_ones_of_rest(desk: Desk) -> None:
    (told,) = desk.triton("ModelStatistics", name="mlp", version="1").model_stats

    assert (told.name, told.version, told.inference_count, told.execution_count, told.last_inference) == (
        "mlp",
        "1",
        7,
        2,
        1_700_000_000_123,
    )
    assert (told.inference_stats.queue.count, told.inference_stats.queue.ns) == (3, 2000)
    assert [(one.batch_size, one.compute_infer.ns) for one in told.batch_stats] == [(3, 1000), (4, 2500)]
    assert told.memory_usage[0].byte_size == 1 << 20
    assert desk.control.asked == [("statistics", "mlp", 1)]


def test_the_configuration_is_the_one_of_rest(desk: Desk) -> None:
    config = desk.triton("ModelConfig", name="mlp").config

    assert (config.name, config.platform, config.backend, config.max_batch_size) == ("mlp", "onnxruntime_onnx", "onnxruntime", 32)
    # TYPE_FP32.
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [("x", 11, [10])]
    assert config.WhichOneof("scheduling_choice") == "dynamic_batching"


@pytest.mark.parametrize("name", ["ModelConfig", "ModelStatistics"])
def test_what_is_asked_of_an_unknown_model_is_not_found(desk: Desk, name: str) -> None:
    with pytest.raises(Refused, match="NOT_FOUND"):
        desk.triton(name, name="nobody")


def test_trace_and_log_settings_are_told_and_kept(desk: Desk) -> None:
    trace = desk.triton("TraceSetting")
    assert list(trace.settings["trace_level"].value) == ["OFF"]
    assert list(
        desk.triton("TraceSetting", settings={"trace_level": {"value": ["OFF"]}, "trace_rate": {}}).settings["trace_rate"].value
    ) == ["1000"]
    logging = desk.triton("LogSettings", settings={"log_info": {"bool_param": True}})
    assert logging.settings["log_verbose_level"].WhichOneof("parameter_choice") == "uint32_param"

    for method, name, value in (
        ("TraceSetting", "trace_file", {"value": ["/tmp/x"]}),
        ("TraceSetting", "trace_level", {"value": ["TENSORS"]}),
        ("LogSettings", "log_file", {"string_param": "/tmp/x"}),
        ("LogSettings", "log_verbose_level", {"uint32_param": 2}),
    ):
        with pytest.raises(Refused, match="PERMISSION_DENIED"):
            desk.triton(method, settings={name: value})


def test_a_reload_is_read_whole(desk: Desk) -> None:
    answer = desk.reload(
        {"name": "a", "base_path": "/models/a", "model_platform": "tensorflow"},
        {"name": "b", "model_version_policy": {"latest": {"num_versions": 2}}},
        {"name": "c", "model_version_policy": {"all": {}}},
        {"name": "d", "model_version_policy": {"specific": {"versions": [3, 1]}}, "version_labels": {"stable": 1}},
    )

    assert answer.HasField("status")
    assert answer.status.error_code == 0
    ((verb, models, actor),) = desk.control.asked
    assert (verb, actor) == ("reload", "tfserving-grpc 192.0.2.7")
    assert models == [
        WishedModel("a", "/models/a"),
        WishedModel("b", "", "latest", 2),
        WishedModel("c", "", "all"),
        WishedModel("d", "", "specific", 1, (3, 1), {"stable": 1}),
    ]


@pytest.mark.parametrize(
    ("models", "code"),
    [
        ([{"name": "a", "model_version_policy": {"specific": {}}}], "BAD_CONFIG"),
        ([{"name": "a", "model_version_policy": {"specific": {"versions": [0]}}}], "BAD_CONFIG"),
        ([{"name": f"m{number}"} for number in range(1001)], "TOO_MANY_MODELS"),
    ],
)
def test_a_bad_reload_is_refused_before_anybody_is_asked(desk: Desk, models: list[dict[str, Any]], code: str) -> None:
    with pytest.raises(Refused) as raised:
        desk.reload(*models)
    assert (raised.value.code, desk.control.asked) == (code, [])


def test_a_reload_without_a_list_is_refused(desk: Desk) -> None:
    with pytest.raises(Refused, match=r"INVALID_ARGUMENT: .*model_config_list"):
        desk.ask(
            "tensorflow.serving.ModelService/HandleReloadConfigRequest",
            MESSAGES["tensorflow.serving.ReloadConfigRequest"](),
            "tensorflow.serving.ReloadConfigResponse",
        )
