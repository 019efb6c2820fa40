"""A model named by a URL: fetched whole and within bounds from a real server, led nowhere by it, and nothing secret repeated."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import pytest

from towline.app.fetching import http as fetching_http
from towline.app.fetching import remote
from towline.app.fetching.fetch import fetched, is_url
from towline.app.fetching.http import is_public, judged
from towline.app.importing.model import import_model
from towline.core.errors import DeadlineExceeded, ImportRefused, MissingExtra, NotFound, TowlineError, Unreachable, UsageError
from towline.testing import tiny_models

MODEL = tiny_models.mlp()
SECRET = "s3cret"


class Handler(BaseHTTPRequestHandler):
    """/files/… is the model; the rest misbehaves as its name says."""

    protocol_version = "HTTP/1.1"
    moved: dict[str, str] = {}
    seen: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if path in self.moved:
            return self._answer(302, b"", {"Location": self.moved[path]})
        if path.startswith("/status/"):
            return self._answer(int(path.rpartition("/")[2]), b"no", {})
        if path == "/cut.onnx":
            self._answer(200, MODEL[:100], {"Content-Length": str(len(MODEL))})
            self.close_connection = True
            return None
        if path == "/silent.onnx":
            self.rfile.read(1)
        if path == "/lies.onnx":
            return self._answer(200, b"", {"Content-Length": str(1 << 60)})
        if path == "/endless.onnx":
            return self._endless()
        if path == "/zipped.onnx":
            return self._answer(200, MODEL, {"Content-Encoding": "gzip"})
        return self._answer(200, MODEL, {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            while True:
                self.wfile.write(bytes(1 << 16))
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary folder and a home of our own, no proxy, and a server that remembers nothing."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("HOME", str(tmp_path))
    Handler.moved.clear()
    Handler.seen.clear()


def refused(url: str, kind: type[TowlineError] = ImportRefused, **words: int) -> TowlineError:
    with pytest.raises(kind) as caught, fetched(url, **words):
        pass
    assert SECRET not in caught.value.message + caught.value.hint
    return caught.value


def test_a_url_is_imported_like_the_file_behind_it_and_leaves_no_copy(address: str, tmp_path: Path) -> None:
    told: list[str] = []

    made = import_model(f"{address}/files/digits.onnx?token={SECRET}", home=tmp_path / "home", progress=told.append)

    assert (made.version.name, made.existed) == ("digits", False)
    assert told[0] == f"Fetching {address}/files/digits.onnx"
    assert list((tmp_path / "tmp").iterdir()) == []
    (tmp_path / "digits.onnx").write_bytes(MODEL)
    assert import_model(f"file://{tmp_path}/digits.onnx", home=tmp_path / "home").existed


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/a/digits.onnx", "digits.onnx"),
        ("/a/%2e%2e%2fetc", "etc"),
        ("/..%00/x%0a;y.onnx", "x-y.onnx"),
        ("/", "model"),
        ("/.hidden", "hidden"),
    ],
)
def test_a_url_names_no_file_outside_and_no_odd_one(address: str, tmp_path: Path, path: str, name: str) -> None:
    with fetched(address + path) as found:
        assert (found.name, found.parent.parent) == (name, tmp_path / "tmp")
        assert found.read_bytes() == MODEL


def test_what_is_no_url_is_a_path() -> None:
    assert not any(map(is_url, ("model.onnx", "/a/b://c", "handler.py:Digits", "c:/models", Path("https://host/x"))))
    with fetched("some/model.onnx") as found:
        assert found == Path("some/model.onnx")


@pytest.mark.parametrize(
    ("path", "kind", "code"),
    [
        ("/status/404", NotFound, "NOT_FOUND"),
        ("/status/401", ImportRefused, "SOURCE_REFUSED"),
        ("/status/503", Unreachable, "UNREACHABLE"),
        ("/status/418", ImportRefused, "SOURCE_REFUSED"),
        ("/cut.onnx", ImportRefused, "TORN_FILE"),
        ("/lies.onnx", ImportRefused, "TOO_LARGE"),
        ("/endless.onnx", ImportRefused, "TOO_LARGE"),
        ("/zipped.onnx", ImportRefused, "SOURCE_REFUSED"),
    ],
)
def test_an_answer_that_is_no_whole_file_is_refused(address: str, tmp_path: Path, path: str, kind: type[TowlineError], code: str) -> None:
    error = refused(f"{address}{path}?token={SECRET}", kind, max_bytes=1 << 20)

    assert error.code == code
    assert f"{address}{path}" in error.message
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_file_larger_than_the_disk_has_room_for_is_not_begun(address: str) -> None:
    assert refused(f"{address}/lies.onnx", max_bytes=1 << 61).code == "DISK_FULL"


def test_a_silent_server_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching_http, "SILENCE_S", 0.2)

    refused(f"{address}/silent.onnx", DeadlineExceeded)


def test_a_host_that_is_not_there_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refused(f"http://127.0.0.1:{taken.getsockname()[1]}/x?token={SECRET}", Unreachable)


def test_a_redirect_within_the_host_is_followed_and_one_in_circles_is_not(address: str) -> None:
    Handler.moved |= {"/old": "/new.onnx", "/round": "/round"}

    with fetched(f"{address}/old") as found:
        assert found.read_bytes() == MODEL
    assert refused(f"{address}/round").code == "SOURCE_NOT_ALLOWED"
    assert len(Handler.seen) == 2 + fetching_http.MAX_REDIRECTS + 1


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1/x",
        "http://127.0.0.1:1/x",
        "http://localhost/x",
        "//[bad",
        "https://a:b@host/x",
    ],
)
def test_a_redirect_to_another_scheme_or_service_is_not_followed(address: str, target: str) -> None:
    Handler.moved["/away"] = f"{target}?token={SECRET}"

    assert refused(f"{address}/away").code == "SOURCE_NOT_ALLOWED"
    assert len(Handler.seen) == 1


def test_a_redirect_to_an_address_of_this_network_is_found_out_before_a_byte_is_sent(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        inside.settimeout(10)
        Handler.moved["/away"] = f"https://localhost:{inside.getsockname()[1]}/x?token={SECRET}"

        assert refused(f"{address}/away").code == "SOURCE_NOT_ALLOWED"

        connection, _ = inside.accept()
        with connection:
            assert connection.recv(100) == b""


@pytest.mark.parametrize(
    ("target", "is_allowed"),
    [
        ("https://cdn.example.com/x", True),
        ("https://example.com/x", True),
        ("http://example.com/y", True),
        ("http://cdn.example.com/x", False),
        ("http://example.com:8080/y", False),
    ],
)
def test_another_host_is_asked_over_https_only(target: str, is_allowed: bool) -> None:
    first = urlsplit("http://example.com/x")
    if is_allowed:
        assert judged(first, target, first).geturl() == target
    else:
        with pytest.raises(ImportRefused):
            judged(first, target, first)


def test_https_is_never_left_again() -> None:
    first = urlsplit("https://example.com/x")

    with pytest.raises(ImportRefused):
        judged(first, "http://example.com/x", first)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:10.0.0.1", False),
        ("2002:0a00:0001::", False),
    ],
)
def test_addresses_of_this_machine_and_its_network_are_not_public(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_credentials_of_netrc_go_to_their_host_and_stand_in_no_message(address: str, tmp_path: Path) -> None:
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login ann password {SECRET}\n")
    (tmp_path / ".netrc").chmod(0o600)

    with fetched(f"{address}/digits.onnx"):
        pass
    refused(f"{address}/status/403")

    expected = "Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()
    assert [given for _, given in Handler.seen] == [expected, expected]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        (f"https://ann:{SECRET}@example.com/x", "SECRET_IN_ARGUMENTS"),
        (f"https://example.com:port/x?token={SECRET}", "BAD_URL"),
        (f"https://[::1/x?token={SECRET}", "BAD_URL"),
        (f"https://ann:{SECRET}/x@example.com/x", "BAD_URL"),
        ("gopher://example.com/x", "SOURCE_NOT_ALLOWED"),
        ("ftp://example.com/x", "SOURCE_NOT_ALLOWED"),
        ("zip://x.onnx::https://example.com/x.zip", "SOURCE_NOT_ALLOWED"),
        ("s3://bucket/x::https://example.com/x", "SOURCE_NOT_ALLOWED"),
        ("file://otherhost/x", "BAD_URL"),
    ],
)
def test_a_url_that_is_wrong_or_holds_a_secret_is_usage(url: str, code: str) -> None:
    assert refused(url, UsageError).code == code


def test_a_folder_in_a_bucket_comes_with_all_that_is_beneath() -> None:
    bucket = fsspec.filesystem("memory")
    for name in ("saved/saved_model.pb", "saved/variables/variables.index"):
        with bucket.open(f"/models/{name}", "wb") as file:
            file.write(name.encode())

    with fetched("memory://models/saved") as found:
        assert (found.name, (found / "variables" / "variables.index").read_bytes()) == ("saved", b"saved/variables/variables.index")
        assert (found / "saved_model.pb").is_file()
    with fetched("memory://models/saved/saved_model.pb") as found:
        assert found.read_bytes() == b"saved/saved_model.pb"
    refused("memory://models/nothing", NotFound)
    assert refused("memory://models/saved", max_bytes=10).code == "TOO_LARGE"


def test_a_bucket_whose_names_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    bucket = fsspec.filesystem("memory")
    bucket.store["/evil/a/../../../../outside"] = fsspec.implementations.memory.MemoryFile(bucket, "/evil/a/../../../../outside", b"x")

    assert refused("memory://evil").code == "SOURCE_NOT_ALLOWED"
    assert not (tmp_path / "outside").exists()


def test_a_bucket_with_too_many_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_FILES", 3)
    for number in range(4):
        fsspec.filesystem("memory").pipe(f"/many/{number}", b"x")

    assert refused("memory://many").code == "TOO_LARGE"


def test_a_storage_whose_package_is_missing_names_the_extra() -> None:
    assert "towline[s3]" in refused("s3://bucket/digits.onnx", MissingExtra).hint
