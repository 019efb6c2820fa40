"""Triton's repository, statistics and configuration extensions over REST: what is asked of the Control, and what never reaches it."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from asking import Asking
from plane import HonestPlane, OneVersion, version

from towline.core.errors import Kind, NotFound, TowlineError, Unavailable
from towline.serve.codecs.check import Limits
from towline.serve.contract import Asked, HttpRequest, HttpResponse, Loaded
from towline.serve.protocols import openinference, repository, statistics
from towline.serve.protocols.table import RouteTable
from towline.testing import tiny_models


class Rest:
    def __init__(self) -> None:
        self.control = Asking()
        self.plane = HonestPlane(version("mlp", tiny_models.mlp()))
        limits = Limits()
        extending = (*repository.routes(self.control, limits), *statistics.routes(self.plane, self.control, limits))
        self._table = RouteTable([*extending, *openinference.routes(self.plane, limits)])

    def ask(self, method: str, path: str, body: object = b"") -> tuple[int, Any]:
        response = asyncio.run(self._ask(method, path, body if isinstance(body, bytes) else json.dumps(body).encode()))
        return response.status, json.loads(response.body) if response.body else None

    def respond(self, method: str, path: str) -> HttpResponse:
        return asyncio.run(self._ask(method, path, b""))

    async def _ask(self, method: str, path: str, body: bytes) -> HttpResponse:
        found = self._table.find(method.encode(), path.encode())
        assert found.handler is not None, f"no route takes {method} {path}"
        answer: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        request = HttpRequest(method, found.path, found.query, [], body, 100.0, b"request-7", peer=("192.0.2.7", 4711))
        found.handler(request, found.params, answer.set_result)
        return await asyncio.wait_for(answer, 5)


@pytest.fixture
def rest() -> Rest:
    return Rest()


def test_the_index_lists_every_model_with_its_state_and_the_reason(rest: Rest) -> None:
    assert rest.ask("POST", "/v2/repository/index") == (
        200,
        [
            {"name": "mlp", "version": "1", "state": "READY", "reason": ""},
            {"name": "mlp", "version": "2", "state": "UNAVAILABLE", "reason": "It broke."},
            {"name": "idle", "state": "UNAVAILABLE", "reason": "not loaded"},
        ],
    )


@pytest.mark.parametrize(
    ("body", "names"), [({"ready": True}, ["mlp"]), ({"ready": False}, ["mlp", "mlp", "idle"]), ({}, ["mlp", "mlp", "idle"])]
)
def test_the_index_of_what_is_ready_leaves_the_rest_out(rest: Rest, body: object, names: list[str]) -> None:
    assert [entry["name"] for entry in rest.ask("POST", "/v2/repository/index", body)[1]] == names


@pytest.mark.parametrize("path", ["/v2/repository/models/mlp/load", "/v2/repository/main/models/mlp/load"])
def test_a_load_by_name_says_who_asked_and_answers_what_is_served(rest: Rest, path: str) -> None:
    assert rest.ask("POST", path) == (200, {"name": "mlp", "versions": ["3", "4"], "notes": ["instance_group: not needed"]})
    assert rest.control.asked == [("load", "mlp", Asked(), "openinference-rest 192.0.2.7")]


def test_a_load_may_name_a_version_or_an_alias(rest: Rest) -> None:
    for parameters in ({"version": "12"}, {"version": 12}, {"alias": "champion"}):
        assert rest.ask("POST", "/v2/repository/models/mlp/load", {"parameters": parameters})[0] == 200

    assert [asked[2] for asked in rest.control.asked] == [Asked(12), Asked(12), Asked(alias="champion")]


def test_files_in_line_travel_as_they_came_with_their_configuration(rest: Rest) -> None:
    content = base64.b64encode(b"model").decode()
    assert rest.ask("POST", "/v2/repository/models/mlp/load", {"parameters": {"config": "{}", "file:1/model.onnx": content}})[0] == 200

    assert rest.control.asked[0][2] == Asked(config="{}", files={"1/model.onnx": b"bW9kZWw="}, base64=True)


def test_an_unload_is_answered_without_a_body(rest: Rest) -> None:
    assert rest.ask("POST", "/v2/repository/models/mlp/unload", {"parameters": {"unload_dependents": True}}) == (200, None)
    assert rest.control.asked == [("unload", "mlp", "openinference-rest 192.0.2.7")]


REFUSED_LOADS: dict[str, tuple[object, int, str]] = {
    "a URL": ({"parameters": {"url": "http://192.0.2.1/m.onnx"}}, 403, "PLACE_NOT_ALLOWED"),
    "a path": ({"parameters": {"path": "/etc"}}, 403, "PLACE_NOT_ALLOWED"),
    "a file that is a URL": ({"parameters": {"config": "{}", "file:https://192.0.2.1/m.onnx": "eA=="}}, 403, "PLACE_NOT_ALLOWED"),
    "a file that climbs": ({"parameters": {"config": "{}", "file:1/../../m.onnx": "eA=="}}, 400, "BAD_FILE_NAME"),
    "an absolute file": ({"parameters": {"config": "{}", "file:/1/m.onnx": "eA=="}}, 400, "BAD_FILE_NAME"),
    "a hidden file": ({"parameters": {"config": "{}", "file:1/.profile": "eA=="}}, 400, "BAD_FILE_NAME"),
    "a file of no version": ({"parameters": {"config": "{}", "file:model.onnx": "eA=="}}, 400, "BAD_FILE_NAME"),
    "version zero": ({"parameters": {"config": "{}", "file:0/model.onnx": "eA=="}}, 400, "BAD_FILE_NAME"),
    "files without a configuration": ({"parameters": {"file:1/model.onnx": "eA=="}}, 400, "CONFIG_MISSING"),
    "files and a version": ({"parameters": {"config": "{}", "version": 1, "file:1/model.onnx": "eA=="}}, 400, "AMBIGUOUS"),
    "a version and an alias": ({"parameters": {"alias": "a", "version": 1}}, 400, "AMBIGUOUS"),
    "too many files": ({"parameters": {"config": "{}", **{f"file:1/{n}": "eA==" for n in range(65)}}}, 400, "TOO_MANY_FILES"),
    "a version that is none": ({"parameters": {"version": "-1"}}, 400, "BAD_VERSION"),
    "a version that is true": ({"parameters": {"version": True}}, 400, "BAD_VERSION"),
    "a configuration that is no text": ({"parameters": {"config": {}}}, 400, "INVALID_ARGUMENT"),
    "a file that is no text": ({"parameters": {"config": "{}", "file:1/model.onnx": 3}}, 400, "INVALID_ARGUMENT"),
    "an unknown parameter": ({"parameters": {"replicas": 3}}, 400, "UNKNOWN_PARAMETER"),
    "parameters that are a list": ({"parameters": [1]}, 400, "INVALID_ARGUMENT"),
    "a body that is a list": ([], 400, "BAD_JSON"),
    "a body that is torn": (b'{"parameters": ', 400, "BAD_JSON"),
    "a key twice": (b'{"parameters": {"version": 1, "version": 2}}', 400, "DUPLICATE_KEY"),
    "nesting without end": (b"[" * 100_000, 400, "BAD_JSON"),
}


@pytest.mark.parametrize("name", REFUSED_LOADS)
def test_a_bad_load_is_refused_before_anybody_is_asked(rest: Rest, name: str) -> None:
    body, status, code = REFUSED_LOADS[name]
    got, answer = rest.ask("POST", "/v2/repository/models/mlp/load", body)

    assert (got, answer["code"]) == (status, code)
    assert rest.control.asked == []


def test_a_large_torn_body_is_refused_as_well(rest: Rest) -> None:
    body = b'{"parameters": {"file:1/model.onnx": "' + b"A" * (2 << 20)
    assert rest.ask("POST", "/v2/repository/models/mlp/load", body)[0] == 400


@pytest.mark.parametrize("body", [{"parameters": {"force": True}}, {"parameters": {"unload_dependents": "yes"}}])
def test_a_bad_unload_is_refused_before_anybody_is_asked(rest: Rest, body: object) -> None:
    assert rest.ask("POST", "/v2/repository/models/mlp/unload", body)[0] == 400
    assert rest.control.asked == []


REFUSALS = {
    "not allowed": (TowlineError("No.", kind=Kind.DENIED, hint="--model-control explicit"), 403),
    "unknown": (NotFound("No model."), 404),
    "away": (Unavailable("Away.", retry_after_s=2.0), 503),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_the_control_refuses_is_told_in_the_protocols_words(rest: Rest, name: str) -> None:
    rest.control.refusal, status = REFUSALS[name]
    got, answer = rest.ask("POST", "/v2/repository/models/mlp/load")

    assert (got, answer["error"].startswith(rest.control.refusal.message)) == (status, True)


def test_a_client_that_leaves_no_longer_waits(rest: Rest) -> None:
    async def leave() -> list[HttpResponse]:
        forever = asyncio.Event()

        async def never(name: str, asked: Asked, *, actor: str) -> Loaded:
            await forever.wait()
            raise AssertionError

        rest.control.load = never  # type: ignore[method-assign]
        found = rest._table.find(b"POST", b"/v2/repository/models/mlp/load")
        assert found.handler is not None
        answers: list[HttpResponse] = []
        cancel = found.handler(HttpRequest("POST", found.path, "", [], b""), found.params, answers.append)
        await asyncio.sleep(0)
        assert cancel is not None
        cancel()
        await asyncio.sleep(0)
        return answers + [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]  # type: ignore[list-item]

    assert asyncio.run(leave()) == []


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/repository/index", b"POST"),
        ("/v2/repository/models/mlp/load", b"POST"),
        ("/v2/repository/models/mlp/unload", b"POST"),
    ],
)
def test_a_wrong_verb_is_told_the_right_one(rest: Rest, path: str, allowed: bytes) -> None:
    response = rest.respond("GET", path)
    assert (response.status, dict(response.headers)[b"allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v2/models/stats", ("statistics", "", None)),
        ("/v2/models/mlp/stats", ("statistics", "mlp", None)),
        ("/v2/models/mlp/versions/1/stats", ("statistics", "mlp", 1)),
    ],
)
def test_statistics_have_tritons_shape(rest: Rest, path: str, asked: tuple[Any, ...]) -> None:
    status, answer = rest.ask("GET", path)

    assert (status, rest.control.asked) == (200, [asked])
    (only,) = answer["model_stats"]
    assert only == {
        "name": "mlp",
        "version": "1",
        "last_inference": 1_700_000_000_123,
        "inference_count": 7,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 3, "ns": 9000},
            "fail": {"count": 1, "ns": 50},
            "queue": {"count": 3, "ns": 2000},
            "compute_input": {"count": 3, "ns": 0},
            "compute_infer": {"count": 3, "ns": 6000},
            "compute_output": {"count": 3, "ns": 1000},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": {"count": 1, "ns": 0},
                "compute_infer": {"count": 1, "ns": ns},
                "compute_output": {"count": 1, "ns": 0},
            }
            for rows, ns in ((3, 1000), (4, 2500))
        ],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 1 << 20}],
    }


@pytest.mark.parametrize(
    "path", ["/v2/models/nobody/stats", "/v2/models/mlp/versions/9/stats", "/v2/models/nobody/config", "/v2/models/nobody/trace/setting"]
)
def test_what_is_asked_of_an_unknown_model_is_not_found(rest: Rest, path: str) -> None:
    assert rest.ask("GET", path)[0] == 404


def test_the_configuration_of_a_batchable_version_leaves_the_batch_dimension_out(rest: Rest) -> None:
    status, config = rest.ask("GET", "/v2/models/mlp/config")

    assert (status, config["name"], config["platform"], config["max_batch_size"]) == (200, "mlp", "onnxruntime_onnx", 32)
    assert [(one["name"], one["data_type"], one["dims"]) for one in config["input"]] == [("x", "TYPE_FP32", [10])]
    assert "dynamic_batching" in config


def test_the_configuration_of_another_version_has_whole_shapes_and_no_batching() -> None:
    served: OneVersion = version("words", tiny_models.mlp())
    served.manifest = type(served.manifest)(
        **{**{name: getattr(served.manifest, name) for name in served.manifest.__struct_fields__}, "batchable": False}
    )
    config = statistics.config_of(served, 32)

    assert (config["max_batch_size"], config["input"][0]["dims"], "dynamic_batching" in config) == (0, [-1, 10], False)


@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/mlp/trace/setting", "/v2/logging"])
def test_settings_are_told_and_a_change_that_is_none_is_taken(rest: Rest, path: str) -> None:
    status, now = rest.ask("GET", path)
    assert (status, "log_file" in now or "trace_file" in now) == (200, True)

    assert rest.ask("POST", path, now) == (200, now)
    assert rest.ask("POST", path, dict.fromkeys(now)) == (200, now)


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v2/logging", {"log_file": "/tmp/here"}, 403, "where a client says"),
        ("/v2/trace/setting", {"trace_file": "/tmp/here"}, 403, "where a client says"),
        ("/v2/models/mlp/trace/setting", {"trace_level": ["TENSORS"]}, 403, "tracing"),
        ("/v2/logging", {"log_verbose_level": 3}, 403, "TOWLINE_LOG_LEVEL"),
        ("/v2/logging", {"log_colour": "red"}, 400, "no setting of logging"),
        ("/v2/logging", [], 400, "object"),
    ],
)
def test_a_client_changes_neither_logging_nor_tracing(rest: Rest, path: str, body: object, status: int, said: str) -> None:
    got, answer = rest.ask("POST", path, body)
    assert (got, said in answer["error"]) == (status, True)


def test_every_extension_that_is_served_is_advertised(rest: Rest) -> None:
    advertised = rest.ask("GET", "/v2")[1]["extensions"]
    assert {"model_repository", "model_configuration", "statistics", "trace", "logging", "schedule_policy"} <= set(advertised)
