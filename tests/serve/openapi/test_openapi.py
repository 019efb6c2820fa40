"""/openapi.json tells what is served, its examples work and its schemas hold; /docs shows it and fetches nothing from elsewhere."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pictures import ReadingPlane, reader, table
from plane import Api, HonestPlane, version

from towline.core.manifest import Handler, TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.openapi.document import MAX_MODELS
from towline.testing import tiny_models

MODELS = {
    "mlp": tiny_models.mlp(),
    "two": tiny_models.add_two(),
    "text": tiny_models.identity("string", ("N",)),
    "u8": tiny_models.identity("uint8"),
    "u64": tiny_models.identity("uint64"),
    "flag": tiny_models.identity("bool"),
    "f16": tiny_models.identity("float16"),
    "log": tiny_models.logarithm(),
    "fixed": tiny_models.fixed_shape(),
}


def plane_of(*names: str) -> HonestPlane:
    return HonestPlane(*(version(name, MODELS[name]) for name in names or MODELS))


def described(api: Api) -> dict[str, Any]:
    answer = api.ask("GET", "/openapi.json")
    assert (answer.status, answer.content_type) == (200, b"application/json")
    return json.loads(answer.body)  # type: ignore[no-any-return]


def operations(description: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method.upper(), path, one) for path, methods in description["paths"].items() for method, one in methods.items()]


def body_schema(description: dict[str, Any], path: str) -> Draft202012Validator:
    return Draft202012Validator(description["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"])


@pytest.fixture(scope="module")
def api() -> Api:
    columns = (TensorSpec("age", "float32", ("N",)), TensorSpec("city", "string", ("N",)))
    plain = [version(name, model) for name, model in MODELS.items()]
    return Api(ReadingPlane(*plain, reader("image"), reader("audio"), reader("text", name="words"), table(*columns)))


def test_every_example_works_and_its_answer_is_as_described(api: Api) -> None:
    description = described(api)
    asked = 0
    for method, path, operation in operations(description):
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        if method == "POST" and "example" not in content:
            continue
        answer = api.ask(method, path, json.dumps(content["example"]).encode() if content else b"", {"Content-Type": "application/json"})
        assert answer.status == 200, (path, answer.body)
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator(schema).validate(json.loads(answer.body))
        if content:
            Draft202012Validator(content["schema"]).validate(content["example"])
            asked += 1
    assert asked >= 3 * len(MODELS)


def test_every_path_leads_somewhere_and_every_schema_is_one(api: Api) -> None:
    found = operations(described(api))

    assert len({operation["operationId"] for _, _, operation in found}) == len(found)
    for _, path, operation in found:
        assert "{" not in path
        for content in operation.get("requestBody", {}).get("content", {}).values():
            Draft202012Validator.check_schema(content["schema"])


@pytest.mark.parametrize(
    ("model", "value", "fits"),
    [
        ("mlp", [[0.5] * 10], True),
        ("mlp", [0.5] * 10, True),
        ("mlp", [[0.5] * 9], False),
        ("mlp", [[0.5] * 10] * 257, False),
        ("mlp", [["a"] * 10], False),
        ("mlp", [[1e39] * 10], False),
        ("f16", [[65_519, 1]], True),
        ("f16", [[65_520, 1]], False),
        ("u8", [[255, 0]], True),
        ("u8", [[256, 0]], False),
        ("u64", [[2**64 - 1, 0]], True),
        ("flag", [[True, False]], True),
        ("flag", [[1, 0]], False),
        ("text", ["a", {"b64": "YWJj"}], True),
        ("text", [{"b64": "!"}], False),
        ("fixed", [[1, 2, 3, 4]], True),
        ("fixed", [[1, 2, 3, 4]] * 2, False),
        ("two", {"a": [[1, 2]], "b": [[3, 4]]}, True),
        ("two", {"a": [[1, 2]]}, False),
    ],
)
def test_what_a_schema_takes_is_taken_and_what_it_refuses_is_refused(api: Api, model: str, value: Any, fits: bool) -> None:
    path = f"/models/{model}/predict"
    body = {"input": value}

    assert body_schema(described(api), path).is_valid(body) is fits
    assert (api.ask("POST", path, json.dumps(body).encode()).status == 200) is fits


@pytest.mark.parametrize(
    "path", ["/models/mlp/predict", "/v1/models/mlp:predict", "/v2/models/mlp/infer", "/models/nobody/predict", "/predict"]
)
def test_an_error_is_as_described(api: Api, path: str) -> None:
    description = described(api)
    which = "FlatError" if path.startswith("/v") else "Error"
    schema = description["components"]["responses"][which]["content"]["application/json"]["schema"]

    answer = api.ask("POST", path, b"{")

    assert 400 <= answer.status < 500
    Draft202012Validator(schema).validate(json.loads(answer.body))


def test_what_reads_files_says_so(api: Api) -> None:
    paths = described(api)["paths"]

    assert set(paths["/models/image/predict"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "multipart/form-data",
        "image/jpeg",
        "image/png",
    }
    assert "audio/wav" in paths["/models/audio/predict"]["post"]["requestBody"]["content"]
    assert set(paths["/models/mlp/predict"]["post"]["requestBody"]["content"]) == {"application/json"}


def test_the_path_without_a_name_is_there_for_one_model_only(api: Api) -> None:
    assert "/predict" not in described(api)["paths"]
    assert "/predict" in described(Api(plane_of("mlp")))["paths"]


def test_it_follows_what_is_served_and_leaves_out_what_does_not_answer_yet() -> None:
    plane = plane_of("mlp")
    api = Api(plane)
    before = described(api)
    assert api.ask("GET", "/openapi.json").body is api.ask("GET", "/openapi.json").body
    plane.ready = False

    assert "/models/mlp/predict" in before["paths"]
    assert [tag["name"] for tag in described(api)["tags"]] == []


def test_a_large_batch_limit_and_a_long_list_of_models_keep_it_short() -> None:
    names = [f"m{number:03}" for number in range(MAX_MODELS + 5)]
    one = version("m", MODELS["mlp"])
    many = HonestPlane(*(type(one)(name, 1, one.manifest, one.session) for name in names))

    description = described(Api(many, Limits(max_batch=4)))

    assert len(description["tags"]) == MAX_MODELS
    assert "5 more models" in description["info"]["description"]
    assert not body_schema(description, "/models/m000/predict").is_valid({"input": np.zeros((5, 10)).tolist()})


def test_a_handler_without_a_signature_takes_anything() -> None:
    one = version("h", tiny_models.identity("string", ("N",)))
    one.manifest = msgspec.structs.replace(one.manifest, handler=Handler("H", passes_body=True))

    assert body_schema(described(Api(HonestPlane(one))), "/models/h/predict").is_valid({"anything": [1]})


# The page


def test_the_page_and_its_files_are_served_with_a_policy_that_lets_nothing_else_in(api: Api) -> None:
    for path, kind in (("/docs", b"text/html"), ("/docs/docs.js", b"text/javascript"), ("/docs/docs.css", b"text/css")):
        answer = api.ask("GET", path)
        policy = dict(answer.headers)[b"content-security-policy"]

        assert answer.status == 200
        assert answer.content_type.startswith(kind)
        assert b"default-src 'none'" in policy
        assert b"unsafe" not in policy
        assert dict(answer.headers)[b"x-content-type-options"] == b"nosniff"
        assert not re.search(rb"(?:https?:)?//[a-z0-9.-]+\.[a-z]+", answer.body), "nothing comes from elsewhere"


def test_the_page_has_no_script_or_style_of_its_own_and_writes_no_markup(api: Api) -> None:
    page, script = api.ask("GET", "/docs").body, api.ask("GET", "/docs/docs.js").body

    assert re.findall(rb"<script[^>]*>([^<]*)</script>", page) == [b""]
    assert b"<style" not in page
    assert not re.search(rb"\son[a-z]+=", page)
    assert not re.search(rb"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script)


def test_only_get_is_taken(api: Api) -> None:
    for path in ("/docs", "/openapi.json", "/docs/docs.js"):
        answer = api.ask("POST", path, b"{}")
        assert (answer.status, dict(answer.headers)[b"allow"]) == (405, b"GET, HEAD")


def test_the_page_is_open_and_the_description_is_not(api: Api) -> None:
    assert [api._table.find(b"GET", path).is_open for path in (b"/docs", b"/docs/docs.js", b"/openapi.json")] == [True, True, False]
