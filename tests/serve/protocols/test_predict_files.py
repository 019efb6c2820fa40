"""/predict with files, text and forms, as real clients write them: one file is one item, several are a batch."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import numpy as np
import pytest
import requests
from pictures import ReadingPlane, bmp, gif, jpeg, png, reader, table, wav, webp
from plane import Api, version

from towline.core import picture
from towline.core.inference import Response
from towline.core.manifest import Processing, TensorSpec
from towline.serve.codecs import exact
from towline.serve.codecs.check import Limits
from towline.serve.contract import HttpResponse
from towline.serve.protocols import simple_answer, simple_body
from towline.serve.protocols.simple_answer import About
from towline.testing import tiny_models

SHORT, LONG = png(), png(100, 100, level=3) + bytes(100)
BEST_SHORT = {"label": "short", "score": 0.75, "index": 0}
BEST_LONG = {"label": "long", "score": 0.75, "index": 1}
COLUMNS = (TensorSpec("age", "float32", ("N",)), TensorSpec("city", "string", ("N",)))


@pytest.fixture(scope="module")
def api() -> Api:
    plain = version("numbers", tiny_models.identity())
    two = version("two", tiny_models.add_two())
    text_in = version("echo", tiny_models.identity("string", ("N",)))
    plane = ReadingPlane(reader("image"), reader("audio"), reader("text"), table(*COLUMNS), plain, two, text_in)
    return Api(plane, Limits(max_image_pixels=1_000_000))


def form(api: Api, model: str, *, query: str = "", **parts: Any) -> HttpResponse:
    """Sent as `requests` writes it."""
    prepared = requests.Request("POST", "http://host/", **parts).prepare()
    assert isinstance(prepared.body, bytes)
    return api.ask("POST", f"/models/{model}/predict{query}", prepared.body, {"Content-Type": str(prepared.headers["Content-Type"])})


def raw(api: Api, model: str, body: bytes, media: str, query: str = "") -> HttpResponse:
    return api.ask("POST", f"/models/{model}/predict{query}", body, {"Content-Type": media})


def as_json(api: Api, model: str, document: object, query: str = "") -> HttpResponse:
    return raw(api, model, json.dumps(document).encode(), "application/json", query)


def good(answer: HttpResponse) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return json.loads(answer.body)  # type: ignore[no-any-return]


def refused(answer: HttpResponse) -> tuple[int, str, str]:
    error = json.loads(answer.body)["error"]
    return answer.status, error["code"], error["field"]


def without_top(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in one.items() if name != "top"} for one in predictions]


def test_a_picture_in_a_form_is_answered_for_old_scripts_and_new_ones_at_once(api: Api) -> None:
    answer = good(form(api, "image", files={"image": ("cat.png", SHORT, "image/png")}))

    second = {"label": "long", "score": 0.25, "index": 1}
    assert answer == {
        "model": "image",
        "version": "1",
        "predictions": [{**BEST_SHORT, "top": [BEST_SHORT, second]}],
        "request_id": "request-7",
        "prediction": 0,
        "label": "short",
        "score": 0.75,
        "probability": 0.75,
    }


@pytest.mark.parametrize("name", ["file", "image", "data", "files[]", "images", "input"])
def test_a_file_is_taken_under_the_usual_names(api: Api, name: str) -> None:
    assert good(form(api, "image", files={name: ("x", LONG)}))["label"] == "long"


def test_several_files_are_a_batch_in_their_order(api: Api) -> None:
    answer = good(form(api, "image", files=[("image", ("a", SHORT)), ("image", ("b", LONG)), ("file", ("c", SHORT))]))

    assert without_top(answer["predictions"]) == [BEST_SHORT, BEST_LONG, BEST_SHORT]
    assert "prediction" not in answer


@pytest.mark.parametrize("how", ["query", "field"])
def test_top_says_how_many_classes_are_wanted(api: Api, how: str) -> None:
    by_query = how == "query"

    answer = good(
        form(api, "image", files={"file": ("a", SHORT)}, query="?top=1" if by_query else "", data={} if by_query else {"top": "1"})
    )

    assert answer["predictions"] == [BEST_SHORT]


def test_scores_with_labels_are_ranked_as_far_as_asked() -> None:
    labels = tuple(f"digit {n}" for n in range(10))
    api = Api(ReadingPlane(version("mlp", tiny_models.mlp(), labels=labels)))
    row = [0.5, -1, 2, 0, 1, 3, -2, 0.1, 0.2, 0.3]

    one = good(api.ask("POST", "/predict?top=3", json.dumps({"instances": [row]}).encode()))
    plain = good(api.ask("POST", "/predict", json.dumps({"input": row}).encode()))

    (found,) = one["predictions"]
    assert [entry["score"] for entry in found["top"]] == sorted(plain["output"], reverse=True)[:3]
    assert {name: found[name] for name in ("label", "score", "index")} == {name: plain[name] for name in ("label", "score", "index")}


@pytest.mark.parametrize("make", [png, jpeg, gif, bmp, webp])
def test_a_picture_may_be_the_whole_body(api: Api, make: Any) -> None:
    assert good(raw(api, "image", make(), "image/png"))["model"] == "image"
    assert good(raw(api, "image", make(), "application/octet-stream"))["model"] == "image"


def test_audio_and_text_may_be_the_whole_body(api: Api) -> None:
    assert good(raw(api, "audio", wav(100), "audio/wav"))["label"] == "long"
    assert good(raw(api, "text", "Grüße".encode(), "text/plain; charset=utf-8"))["label"] == "short"


@pytest.mark.parametrize(
    "document",
    [
        {"image": {"b64": base64.b64encode(LONG).decode()}},
        {"image": base64.b64encode(LONG).decode()},
        {"image_data": base64.b64encode(LONG).decode()},
        {"image": "data:image/png;base64," + base64.b64encode(LONG).decode()},
        {"file": {"b64": base64.b64encode(LONG).decode()}},
        {"instances": [{"b64": base64.b64encode(LONG).decode()}]},
        {"input": {"b64": base64.b64encode(LONG).decode()}},
    ],
    ids=lambda document: next(iter(document)),
)
def test_a_picture_may_come_in_json(api: Api, document: dict[str, Any]) -> None:
    answer = good(as_json(api, "image", document))

    found = answer["predictions"][0] if "predictions" in answer else answer
    assert found["label"] == "long"


def test_a_sentence_may_come_in_json_or_in_a_form(api: Api) -> None:
    assert good(as_json(api, "text", {"text": "hello"}))["label"] == "short"
    assert [one["label"] for one in good(as_json(api, "text", {"texts": ["hello", "x" * 200]}))["predictions"]] == ["short", "long"]
    assert good(form(api, "text", files={"text": (None, "hello")}))["label"] == "short"


def test_the_key_input_is_answered_with_output(api: Api) -> None:
    assert good(as_json(api, "numbers", {"input": [1, 2]})) == {"output": [1, 2]}
    assert good(as_json(api, "text", {"input": "hello"}))["output"]["label"] == ["short", "long"]


@pytest.mark.parametrize("key", ["inputs", "instances", "data", "x"])
def test_numbers_are_taken_under_the_usual_keys(api: Api, key: str) -> None:
    assert good(as_json(api, "numbers", {key: [[1, 2], [3, 4]]}))["predictions"] == [[1, 2], [3, 4]]
    assert good(as_json(api, "numbers", {key: [1, 2]}))["prediction"] == [1, 2]


def test_several_inputs_may_be_named_at_once_or_row_by_row(api: Api) -> None:
    rows = [{"a": [1, 2], "b": [3, 4]}, {"a": [5, 6], "b": [7, 8]}]

    assert good(as_json(api, "two", {"a": [1, 2], "b": [3, 4]}))["prediction"] == [4, 6]
    assert good(as_json(api, "two", {"instances": rows}))["predictions"] == [[4, 6], [12, 14]]


def test_numbers_may_come_as_fields_of_a_form(api: Api) -> None:
    one = form(api, "two", files={"a": (None, "[1, 2]"), "b": (None, "[3, 4]"), "submit": (None, "Go")})
    many = form(api, "two", files=[("a", (None, "[1, 2]")), ("b", (None, "[3, 4]")), ("a", (None, "[5, 6]")), ("b", (None, "[7, 8]"))])

    assert good(one)["prediction"] == [4, 6]
    assert good(many)["predictions"] == [[4, 6], [12, 14]]


def test_a_row_of_a_table_may_come_as_a_form_or_as_json_with_what_is_missing_left_out(api: Api) -> None:
    plane = api.plane
    assert isinstance(plane, ReadingPlane)

    assert good(form(api, "table", files={"age": (None, "140"), "city": (None, "Bern")}))["label"] == "long"
    assert good(as_json(api, "table", {"age": 40, "city": "Bern"}))["label"] == "short"
    assert len(good(as_json(api, "table", {"instances": [{"age": 40, "city": "Bern"}, {"age": None, "city": None}]}))["predictions"]) == 2
    last = plane.requests[-1].inputs
    assert last["age"].tolist()[0] == 40
    assert last["age"].tolist()[1] != last["age"].tolist()[1]
    assert last["city"].tolist() == [b"Bern", b""]


def test_a_model_that_reads_strings_without_processing_is_given_the_bytes(api: Api) -> None:
    assert good(form(api, "echo", files={"file": ("a", b"text")}))["prediction"] == "text"


def test_the_name_of_a_file_is_never_looked_at(api: Api) -> None:
    for name in ("../../etc/passwd", "a\0b", "x" * 3000, "\u202egnp.exe"):
        body = b'--b\r\nContent-Disposition: form-data; name="image"; filename="' + name.encode() + b'"\r\n\r\n' + SHORT + b"\r\n--b--\r\n"
        answer = raw(api, "image", body, "multipart/form-data; boundary=b")

        assert good(answer)["label"] == "short"
        assert name.encode()[:40] not in answer.body


# Refusals


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (png(1001, 1000), 413, "IMAGE_TOO_LARGE"),
        (jpeg(65_535, 65_535), 413, "IMAGE_TOO_LARGE"),
        (bmp(100_000, -100_000), 413, "IMAGE_TOO_LARGE"),
        (gif(0, 5), 400, "BAD_IMAGE"),
        (png()[:20], 400, "BAD_IMAGE"),
        (jpeg()[:12], 400, "BAD_IMAGE"),
        (b"just some text", 400, "BAD_IMAGE"),
        (b"", 400, "EMPTY_BODY"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"%PDF-1.7", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"II*\0rest", 415, "UNSUPPORTED_MEDIA_TYPE"),
        (b"SIMPLE  =                    T", 415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_picture_that_is_none_or_too_large_is_refused_before_it_is_queued(api: Api, body: bytes, status: int, code: str) -> None:
    plane = api.plane
    assert isinstance(plane, ReadingPlane)
    before = len(plane.requests)

    assert refused(raw(api, "image", body, "image/png"))[:2] == (status, code)
    assert len(plane.requests) == before


def test_a_bad_picture_among_good_ones_is_named(api: Api) -> None:
    answer = form(api, "image", files=[("image", ("a", SHORT)), ("image", ("b", b"nothing"))])

    assert refused(answer) == (400, "BAD_IMAGE", "image[1]")


def test_a_size_behind_a_long_preamble_is_left_to_the_worker(api: Api) -> None:
    assert good(raw(api, "image", jpeg(preamble=200_000), "image/jpeg"))["model"] == "image"


def test_a_picture_for_a_model_of_numbers_is_told_how_to_import_it(api: Api) -> None:
    for answer in (raw(api, "numbers", SHORT, "image/png"), form(api, "numbers", files={"image": ("a.png", SHORT, "image/png")})):
        message = json.loads(answer.body)["error"]["message"]

        assert answer.status == 415
        assert "declares no image processing" in message
        assert "--preset imagenet" in message


@pytest.mark.parametrize(
    ("model", "body", "media"),
    [
        ("image", b"hello", "text/plain"),
        ("audio", SHORT, "image/png"),
        ("text", SHORT, "image/png"),
        ("text", b"hello", "text/plain; charset=latin-1"),
        ("image", b"<a/>", "application/xml"),
        ("audio", b"fLaC", "application/octet-stream"),
        ("audio", SHORT, "application/octet-stream"),
    ],
)
def test_a_file_of_another_kind_is_refused_by_its_type(api: Api, model: str, body: bytes, media: str) -> None:
    assert refused(raw(api, model, body, media))[:2] == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_what_is_no_wav_is_bad_audio(api: Api) -> None:
    assert refused(raw(api, "audio", b"RIFFxxxxWAVX", "audio/wav"))[:2] == (400, "BAD_AUDIO")


@pytest.mark.parametrize(
    ("parts", "status", "code", "field"),
    [
        ({"files": {"note": (None, "x")}}, 400, "MISSING_INPUT", "image"),
        ({"files": {"attachment": ("a", SHORT)}}, 400, "UNKNOWN_INPUT", "attachment"),
        ({"files": [("image", ("a", SHORT))] * 17}, 413, "TOO_MANY_PARTS", ""),
        ({"files": {"image": (None, "x" * 70_000)}}, 413, "FIELD_TOO_LARGE", "image"),
        ({"files": {"image": ("a", SHORT)}, "data": {"top": "0"}}, 400, "OUT_OF_RANGE", "top"),
        ({"files": {"image": ("a", SHORT)}, "data": {"top": "many"}}, 400, "OUT_OF_RANGE", "top"),
    ],
    ids=["no file", "another name", "seventeen files", "a long field", "top 0", "top in words"],
)
def test_a_form_that_does_not_fit_is_refused(api: Api, parts: dict[str, Any], status: int, code: str, field: str) -> None:
    assert refused(form(api, "image", **parts)) == (status, code, field)


def test_inputs_of_unequal_count_are_refused(api: Api) -> None:
    answer = form(api, "two", files=[("a", (None, "[1, 2]")), ("b", (None, "[3, 4]")), ("a", (None, "[5, 6]"))])

    assert refused(answer)[:2] == (422, "DIM_MISMATCH")
    assert "2 of 'a', 1 of 'b'" in json.loads(answer.body)["error"]["message"]


def test_a_field_that_is_no_number_is_named(api: Api) -> None:
    assert refused(form(api, "two", files={"a": (None, "[1, 2]"), "b": (None, "[3, four]")})) == (400, "BAD_JSON", "b")


def test_two_of_the_usual_keys_at_once_are_refused(api: Api) -> None:
    assert refused(as_json(api, "numbers", {"instances": [[1, 2]], "inputs": [[1, 2]]}))[:2] == (400, "AMBIGUOUS_FORMAT")


def test_a_query_of_a_thousand_fields_is_refused(api: Api) -> None:
    assert refused(as_json(api, "numbers", {"input": [1, 2]}, "?" + "&".join(f"a{n}=1" for n in range(1000))))[0] == 400


@pytest.mark.parametrize("value", ["", "0", "-1", "1.5", "1001", "%C2%B2"])
def test_a_top_that_is_no_number_from_1_to_1000_is_refused(api: Api, value: str) -> None:
    assert refused(as_json(api, "numbers", {"input": [1, 2]}, f"?top={value}")) == (400, "OUT_OF_RANGE", "top")


def test_only_the_head_of_a_picture_is_looked_at(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = picture.look
    monkeypatch.setattr(picture, "look", lambda raw: looked.append(len(raw)) or look(raw))  # type: ignore[func-returns-value]

    raw(api, "image", b"\xff\xd8" + b"\xff" * 4_000_000, "image/jpeg")

    assert looked == [128 << 10]


def test_numbers_under_the_usual_keys_are_read_as_fast_as_under_input(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*_: object, **__: object) -> None:
        raise AssertionError("read by the exact parser")

    monkeypatch.setattr(exact, "parse", slowly)

    assert good(as_json(api, "numbers", {"instances": [[1, 2]]}))["predictions"] == [[1, 2]]


def test_a_column_may_be_sent_without_the_list_around_each_value() -> None:
    one = table(TensorSpec("age", "float32", ("N", 1)), TensorSpec("city", "string", ("N", 1)))
    one.manifest = msgspec.structs.replace(one.manifest, processing=Processing())
    codec = simple_body.codec_for(one, Limits())

    for document in ({"age": 30, "city": "Bern"}, {"instances": [{"age": 30, "city": "Bern"}]}):
        inputs = codec.decode(json.dumps(document).encode()).request.inputs
        assert (inputs["age"].tolist(), inputs["city"].tolist()) == ([[30]], [[b"Bern"]])


def test_scores_that_are_no_probabilities_are_not_called_so() -> None:
    api = Api(ReadingPlane(version("id", tiny_models.identity(), labels=("no", "yes"))))

    answer = good(api.ask("POST", "/predict", b'{"instances": [5, -3]}'))

    assert (answer["label"], answer["score"]) == ("no", 5)
    assert "probability" not in answer


def test_a_ranking_without_labels_takes_them_from_the_version() -> None:
    outputs = {"score": np.array([[0.9, 0.1]], np.float32), "index": np.array([[1, 7]])}

    said = json.loads(simple_answer.encode(Response(outputs, "m", 1), ("no", "yes"), is_item=True, about=About("r")))

    assert said["predictions"][0]["top"] == [{"label": "yes", "score": 0.9, "index": 1}, {"score": 0.1, "index": 7}]


def test_text_keeps_the_zero_at_its_end() -> None:
    outputs = {"y": np.array([b"a\0", b"b"], dtype=object)}

    assert json.loads(simple_answer.encode(Response(outputs, "m", 1), (), is_item=False, about=About("r")))["predictions"] == ["a\0", "b"]
