"""Our own server keeps every clause; a server that keeps none is found out by every check."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from liars import EXTENSIONS, grpc_liar, http_liar

from towline.app.conformance import Asked, Status, conformance, fails, write_model
from towline.cli.main import main
from towline.core.errors import TowlineError, UsageError
from towline.testing.server import RunningServer
from towline.verify.conformance.checks import Level, Result
from towline.verify.conformance.run import chosen

# Kept by whoever answers 200, and found out by the liar that answers 500.
HTTP_LIES = [(200, b"{}"), (200, EXTENSIONS), (500, b"{}"), (404, b"no")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    for name in ("halves", "echo"):
        write_model(name, folder / f"{name}.onnx")
    with RunningServer(folder / "halves.onnx", folder / "echo.onnx") as running:
        yield running


def told(results: list[Result]) -> list[str]:
    return [f"{one.check.id}: sent {one.sent}, expected {one.expected}, got {one.got}" for one in results if one.status is Status.FAIL]


def test_our_server_keeps_every_clause_and_none_is_left_out(server: RunningServer) -> None:
    results = conformance(Asked(server.url, server.grpc_address))

    assert told(results) == []
    assert not fails(results)
    assert [f"{one.check.id}: {one.reason}" for one in results if one.status is Status.SKIP] == []
    assert len(results) > 90


def test_every_check_finds_out_a_server_that_does_not_keep_its_clause() -> None:
    found_out: set[str] = set()
    for status, body in HTTP_LIES:
        for content_type in ("application/json", "application/grpc-web+proto"):
            with http_liar(status, body, content_type) as port:
                found_out |= _failed(Asked(f"http://127.0.0.1:{port}", only=("v2-rest", "v2-binary", "v2-extensions", "tfserving-rest")))
                found_out |= _failed(Asked(f"http://127.0.0.1:{port}", only=("grpc-web", "graphql")))
    with http_liar(200, b"{}") as port:
        for code in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN):
            with grpc_liar(code) as address:
                found_out |= _failed(Asked(f"http://127.0.0.1:{port}", address, only=("v2-grpc", "tfserving-grpc")))

    assert {check.id for check in chosen(())} - found_out == set()


def _failed(asked: Asked) -> set[str]:
    return {one.check.id for one in conformance(asked) if one.status is Status.FAIL}


def test_a_failure_tells_what_was_sent_expected_and_got_in_lines_without_control_characters() -> None:
    with http_liar(200, b'{"name": "\x1b[2J\x07"}') as port:
        results = conformance(Asked(f"http://127.0.0.1:{port}", only=("v2-rest",)))

    failed = next(one for one in results if one.check.id == "v2-rest/model-metadata")
    assert failed.sent == "GET /v2/models/halves"
    assert failed.expected
    assert all(char.isprintable() for one in results for char in one.sent + one.expected + one.got)
    assert fails(results)


def test_what_a_server_does_not_offer_is_skipped_and_why_is_told(server: RunningServer) -> None:
    results = conformance(Asked(server.url, only=("v2-grpc",)))

    assert {(one.status, one.reason) for one in results} == {(Status.SKIP, "no gRPC address was given")}
    assert not fails(results)


def test_a_server_without_tf_serving_streams_or_versions_is_not_blamed_for_them() -> None:
    with http_liar(404, b"no") as port, grpc_liar(grpc.StatusCode.UNIMPLEMENTED) as address:
        results = conformance(Asked(f"http://127.0.0.1:{port}", address, only=("tfserving-rest", "tfserving-grpc", "v2-grpc")))
    with http_liar(200, b'{"versions": null}') as port:
        results += conformance(Asked(f"http://127.0.0.1:{port}", only=("v2-rest",)))

    skipped = {one.check.id: one.reason for one in results if one.status is Status.SKIP}
    assert {check.id for check in chosen(("tfserving-rest", "tfserving-grpc"))} <= skipped.keys()
    assert skipped["tfserving-rest/row"] == "the server has nothing under /v1/models"
    assert skipped["tfserving-grpc/status"] == "the server has no tensorflow.serving.PredictionService"
    assert skipped["v2-grpc/stream"] == "the server has no ModelStreamInfer"
    assert skipped["v2-rest/versions-are-text"] == skipped["v2-rest/a-version-may-be-named"] == "the metadata lists no versions"


def test_json_is_told_to_be_json_but_where_a_clause_says_otherwise() -> None:
    heard: list[tuple[str, str | None]] = []
    with http_liar(200, b"{}", heard=heard) as port:
        conformance(Asked(f"http://127.0.0.1:{port}", only=("v2-rest",)))

    told_types = [kind for asked, kind in heard if asked == "POST /v2/models/halves/infer"]
    # None is what the clause "no-content-type" sends.
    assert told_types.count(None) == 1
    assert told_types.count("application/json") == len(told_types) - 1 > 10


def test_a_should_alone_does_not_fail_a_server() -> None:
    kept = [check for check in chosen(()) if check.level is Level.SHOULD]

    assert kept
    assert not fails([Result(check, Status.FAIL) for check in kept])


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Asked("https://127.0.0.1:1"), "expected http://HOST:PORT"),
        (Asked("http://127.0.0.1:99999"), "expected http://HOST:PORT"),
        (Asked("http://me@127.0.0.1:80"), "expected http://HOST:PORT"),
        (Asked("http://127.0.0.1:80/v2"), "expected http://HOST:PORT"),
        (Asked("http://192.0.2.1:8000"), "not this machine"),
        (Asked("http://127.0.0.1:80", "192.0.2.1:1"), "not this machine"),
        (Asked("http://127.0.0.1:80", "127.0.0.1"), "expected HOST:PORT"),
        (Asked(grpc="127.0.0.1:80"), "goes with --url"),
        (Asked(only=("v3",)), "no protocol .v3."),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(asked: Asked, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        conformance(asked)


def test_a_server_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    with http_liar(200, b"{}") as port:
        pass
    with pytest.raises(TowlineError, match="does not answer GET /v2/health/live"):
        conformance(Asked(f"http://127.0.0.1:{port}", only=("v2-rest",)))


def test_the_command_prints_each_clause_and_gives_3_when_a_must_is_not_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with http_liar(200, b"{}") as port:
        assert main(["conformance", "--url", f"http://127.0.0.1:{port}", "--only", "v2-rest,graphql"]) == 3
        printed = capsys.readouterr()
        assert "fail  MUST    v2-rest/infer-nested" in printed.out
        assert "        expected  " in printed.out
        assert main(["conformance", "--url", f"http://127.0.0.1:{port}", "--only", "v2-rest", "--json"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["passes"]) == ("towline.conformance/1", False)
    schema = json.loads((Path(__file__).parents[2] / "docs/reference/schemas/towline.conformance.1.json").read_text())
    assert document["results"][0].keys() == set(schema["properties"]["results"]["items"]["required"])


def test_the_suites_models_are_written_once_and_served_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["conformance", "--write-model", "halves"]) == 0
    assert (tmp_path / "halves.onnx").stat().st_size > 100
    assert main(["conformance", "--write-model", "halves"]) == 2
    assert main(["conformance", "--write-model", "../x"]) == 2
    assert "there already" in capsys.readouterr().err
