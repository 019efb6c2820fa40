"""Whatever is sent, each reader reads it or refuses it in its own words, in memory of the order of what was sent.

A second or two here; TOWLINE_FUZZ_S seconds for each target in the services tier (12 unless set).
"""

from __future__ import annotations

import json
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))

from plane import Api, HonestPlane, version

from towline.convert.migrate.properties import read_properties
from towline.convert.migrate.triton_text import read_config_text
from towline.convert.tfserving_config import read_batching, read_each_model, read_metrics_path, read_model_config
from towline.core.errors import InvalidRequest, UsageError
from towline.core.frames import FrameError, decode_frame, encode_frame
from towline.serve.codecs import multipart
from towline.serve.codecs.check import Limits
from towline.serve.protocols import grpcweb
from towline.testing import tiny_models

SHORT_EXAMPLES, LONG_EXAMPLES = 120, 300
LONG_S = float(os.environ.get("TOWLINE_FUZZ_S", "12"))
# Bodies here are of a few KiB; what a reader takes for one may be that many times more, and no more.
MOST_BYTES = 4 << 20


@contextmanager
def bounded_memory(limit_bytes: int = MOST_BYTES) -> Iterator[None]:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    yield
    assert tracemalloc.get_traced_memory()[1] - before < limit_bytes


@cache
def api() -> Api:
    models = {"m": tiny_models.identity(), "text": tiny_models.identity("string"), "two": tiny_models.add_two()}
    return Api(HonestPlane(*(version(name, model) for name, model in models.items())), Limits(max_request_bytes=1 << 20, max_batch=8))


# Open Inference

ODD = st.sampled_from([None, True, False, 0, -1, 1, 2, 1.5, 2**31, 2**63, 2**64, 1e39, "", "x", "y", "FP32", "BYTES", "é", "\0", [], {}])
NUMBERS = st.lists(ODD | st.lists(ODD, max_size=3), max_size=6)
KEYS = st.sampled_from(["binary_data_size", "binary_data", "classification", "shared_memory_region", "priority", "timeout", "other"])
PARAMETERS = st.dictionaries(KEYS, ODD, max_size=3)


def mostly(value: Any, other: st.SearchStrategy[Any] = ODD) -> st.SearchStrategy[Any]:
    """What is right, three times of four: else nearly nothing would get beyond the first check."""
    return st.integers(0, 3).flatmap(lambda roll: other if roll == 0 else st.just(value))


def tensors(*, data: bool) -> st.SearchStrategy[dict[str, Any]]:
    fields = {
        "name": mostly("x"),
        "shape": mostly([1, 2], NUMBERS | st.just([2, 1])),
        "datatype": mostly("FP32"),
        "parameters": mostly({} if data else {"binary_data_size": 8}, PARAMETERS),
    }
    return st.fixed_dictionaries(fields | ({"data": mostly([1, 2], NUMBERS)} if data else {}))


def documents(*, data: bool) -> st.SearchStrategy[dict[str, Any]]:
    inputs = st.lists(tensors(data=data), max_size=3)
    outputs = st.lists(st.fixed_dictionaries({"name": mostly("y"), "parameters": PARAMETERS}), max_size=3)
    more = {"outputs": outputs | ODD, "parameters": PARAMETERS | ODD, "id": ODD, "other": ODD}
    return st.fixed_dictionaries({"inputs": mostly([], inputs) | inputs}, optional=more)


def cut(text: str, at: int, put: str) -> bytes:
    """The text with something else at one place, or cut off there."""
    place = at % (len(text) + 1)
    return (text[:place] + put + text[place + len(put) :]).encode("utf-8", "surrogatepass")


TORN = st.sampled_from(["", "", "", '"', "{", "]", ",", "NaN", "\\ud800", "1e999", "9" * 40, "\0"])
V2_JSON = st.builds(
    lambda found, at, put: cut(json.dumps(found), at, put) if put else json.dumps(found).encode(),
    documents(data=True),
    st.integers(0),
    TORN,
)
HEAD_SIZES = st.sampled_from(["0", "1", "-1", "", "9" * 30, "+1", "1_0", "abc", "100"])
V2_BINARY = st.tuples(documents(data=False), st.binary(max_size=24), st.none() | HEAD_SIZES)


def fair(model: str, body: bytes, headers: dict[str, str]) -> None:
    with bounded_memory():
        answer = api().ask("POST", f"/v2/models/{model}/infer", body, headers)
    assert answer.status in (200, 400, 404, 413, 415), (answer.status, answer.body)
    assert answer.status == 200 or (set(json.loads(answer.body)) == {"error", "code", "field"} and len(answer.body) <= 2048)


def read_v2_json(body: bytes) -> None:
    for model in ("m", "text", "two"):
        fair(model, body, {})


def read_v2_binary(given_: tuple[dict[str, Any], bytes, str | None]) -> None:
    head, blob = json.dumps(given_[0]).encode(), given_[1]
    fair("m", head + blob, {"Inference-Header-Content-Length": str(len(head)) if given_[2] is None else given_[2]})


# Between front and worker


@cache
def whole_frame() -> bytes:
    import numpy as np

    return encode_frame({"x": np.arange(6, dtype=np.float32).reshape(2, 3), "t": np.array([b"one", b""], dtype=object)})


CHANGES = st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), max_size=8)
FRAMES = st.binary(max_size=300) | st.builds(
    lambda changes, end: changed(whole_frame(), changes)[: end or None], CHANGES, st.integers(0, 600)
)


def changed(raw: bytes, changes: list[tuple[int, int]]) -> bytes:
    found = bytearray(raw)
    for at, value in changes:
        found[at % len(found)] = value
    return bytes(found)


def read_a_frame(raw: bytes) -> None:
    try:
        with bounded_memory():
            found = decode_frame(raw)
    except FrameError:
        return
    again = decode_frame(encode_frame(found))
    assert {name: (array.shape, array.dtype, array.tobytes()) for name, array in again.items() if array.dtype != object} == {
        name: (array.shape, array.dtype, array.tobytes()) for name, array in found.items() if array.dtype != object
    }


# Forms, gRPC-Web

FORM = b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\nContent-Type: image/png\r\n\r\nxyz\r\n--b--\r\n'
FORM_PIECES = st.sampled_from(
    [b"--b", b"--b--", b"\r\n", b"\r\n\r\n", b'Content-Disposition: form-data; name="a"', b"; filename*=utf-8''x", b"\0", b'"']
)
FORMS = st.lists(FORM_PIECES | st.binary(max_size=6), max_size=30).map(b"".join) | CHANGES.map(lambda changes: changed(FORM, changes))


def read_a_form(body: bytes) -> None:
    try:
        with bounded_memory():
            parts = multipart.parse(body, b"b")
    except InvalidRequest:
        return
    assert sum(len(one.content) for one in parts) <= len(body)


WEB = st.tuples(
    st.binary(max_size=64)
    | st.builds(
        lambda flag, size, rest: bytes([flag]) + size.to_bytes(4, "big") + rest,
        st.integers(0, 255),
        st.integers(0, 2**32 - 1) | st.integers(0, 40),
        st.binary(max_size=40),
    ),
    st.booleans(),
)


def read_grpc_web(given_: tuple[bytes, bool]) -> None:
    try:
        with bounded_memory():
            message = grpcweb.read_message(given_[0], is_text=given_[1], max_bytes=32)
    except grpcweb.ProtocolError:
        return
    assert len(message) <= 32


# The files of TF Serving, Triton and TorchServe

FIELDS = """
    model_config_list config name base_path model_platform version_policy model_version_policy specific versions version_labels
    max_batch_size max_enqueued_batches num_batch_threads value key custom_model_config allow_version_labels_for_unavailable_models
    backend platform input output dims data_type TYPE_FP32 dynamic_batching prometheus_config enable true
"""
MARKS = """{ } : [ ] < > , ; "m" '/models/m' "\\xff" = \\ \\u ! 1 -1 0 999999999999999999999999999999 1e9 # é"""
WORDS = st.sampled_from([*FIELDS.split(), *MARKS.split(), "\n", "\0"])
TEXTS = st.lists(WORDS, max_size=25).map(" ".join) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
WHOLE = 'model_config_list { config { name: "m" base_path: "/models/m" model_platform: "tensorflow" } }'
CONFIGS = TEXTS | st.builds(lambda at, put: cut(WHOLE, at, put).decode("utf-8", "replace"), st.integers(0), WORDS)


def read_triton(text: str) -> None:
    read_config_text(text, "config.pbtxt")


def read_torchserve(text: str) -> None:
    read_properties(text, "config.properties")


def read_configs(text: str) -> None:
    for read in (read_model_config, read_each_model, read_batching, read_metrics_path, read_triton, read_torchserve):
        try:
            with bounded_memory():
                read(text)
        except UsageError as error:
            said = error.message
        else:
            said = ""
        assert len(said) <= 1200


@dataclass(frozen=True)
class Target:
    inputs: st.SearchStrategy[Any]
    read: Callable[[Any], None]


TARGETS = {
    "v2 JSON": Target(V2_JSON, read_v2_json),
    "v2 binary": Target(V2_BINARY, read_v2_binary),
    "a frame": Target(FRAMES, read_a_frame),
    "a form": Target(FORMS, read_a_form),
    "gRPC-Web": Target(WEB, read_grpc_web),
    "other servers' files": Target(CONFIGS, read_configs),
}
ANYTHING = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]


def fuzz(name: str, examples: int, number: int) -> None:
    target = TARGETS[name]

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=ANYTHING)
    @given(target.inputs)
    def look(sent: Any) -> None:
        target.read(sent)

    # What is loaded or cached on first use is no cost of one request.
    target.read(
        {"v2 binary": ({}, b"", None), "gRPC-Web": (b"", False), "other servers' files": "", "a frame": whole_frame()}.get(name, b"{}")
    )
    tracemalloc.start()
    try:
        look()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TARGETS)
def test_it_is_read_or_refused(name: str) -> None:
    fuzz(name, SHORT_EXAMPLES, 0)


@pytest.mark.services
@pytest.mark.parametrize("name", TARGETS)
def test_it_is_read_or_refused_for_longer(name: str) -> None:
    until_s, number = time.monotonic() + LONG_S, 0
    while time.monotonic() < until_s:
        number += 1
        fuzz(name, LONG_EXAMPLES, number)
