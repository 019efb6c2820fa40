"""What a class declares is read exactly, and what it declares wrongly is told by its attribute."""

from __future__ import annotations

from typing import Any

import pytest

from towline.core.errors import VersionError
from towline.core.handler import BODY_SIGNATURE, parse_tensor
from towline.core.manifest import TensorSpec
from towline.engines.handlers.declared import declared_by


def a_class(**attributes: Any) -> type:
    return type("Mine", (), {"predict": lambda self, x: x, **attributes})


def generator(self: Any, x: Any) -> Any:
    yield x


async def asynchronous(self: Any, x: Any) -> Any:
    return x


async def both(self: Any, x: Any) -> Any:
    yield x


def test_a_plain_class_passes_bodies_and_promises_nothing() -> None:
    declared = declared_by(a_class())

    assert declared.signature == BODY_SIGNATURE
    handler = declared.handler
    assert (handler.class_name, handler.passes_body, handler.takes, handler.media_type) == ("Mine", True, "json", "application/json")
    assert (handler.idempotent, handler.stateful, handler.streams, handler.max_concurrent, handler.timeout_s) == (
        False,
        False,
        False,
        1,
        None,
    )
    assert (declared.max_batch, declared.sample) == (1, None)


def test_a_signature_is_read_in_its_order() -> None:
    declared = declared_by(a_class(inputs={"b": "float32[N, 10]", "a": "string"}, outputs={"y": "int64[]"}))

    assert declared.signature.inputs == (TensorSpec("b", "float32", ("N", 10)), TensorSpec("a", "string", None))
    assert declared.signature.outputs == (TensorSpec("y", "int64", ()),)
    assert not declared.handler.passes_body


@pytest.mark.parametrize(("method", "streams", "concurrent"), [(generator, True, 1), (both, True, 16), (asynchronous, False, 16)])
def test_how_predict_is_written_says_how_it_runs(method: Any, streams: bool, concurrent: int) -> None:
    handler = declared_by(a_class(predict=method)).handler

    assert (handler.streams, handler.max_concurrent) == (streams, concurrent)


def test_one_async_method_is_enough_to_run_many_and_state_to_run_one() -> None:
    assert declared_by(a_class(decode=asynchronous)).handler.max_concurrent == 16
    assert declared_by(a_class(decode=asynchronous, stateful=True)).handler.max_concurrent == 1


def test_a_sample_is_what_a_client_would_send() -> None:
    assert declared_by(a_class(sample={"a": [1, None]})).sample == b'{"a":[1,null]}'
    assert declared_by(a_class(sample=b"\x00", takes="bytes")).sample == b"\x00"


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"predict": 3}, "no method 'predict'"),
        ({"inputs": {"x": "float32[N]"}}, "'outputs' is None"),
        ({"inputs": ["x"], "outputs": {"y": "float32"}}, "'inputs' is ['x']"),
        ({"inputs": {}, "outputs": {"y": "float32"}}, "'inputs' is {}"),
        ({"inputs": {"x": "float31[N]"}, "outputs": {"y": "float32"}}, "'x' is declared as 'float31[N]'"),
        ({"inputs": {"x": "float32[N,-1]"}, "outputs": {"y": "float32"}}, "'x' has a dim '-1'"),
        ({"inputs": {"x": "float32[N,0]"}, "outputs": {"y": "float32"}}, "'x' has a dim '0'"),
        ({"inputs": {"x": "float32[N,]"}, "outputs": {"y": "float32"}}, "'x' has a dim ''"),
        ({"inputs": {"x": 7}, "outputs": {"y": "float32"}}, "'x' is declared as 7"),
        ({"idempotent": 1}, "'idempotent' is 1"),
        ({"stateful": "yes"}, "'stateful' is 'yes'"),
        ({"max_batch": 0}, "'max_batch' is 0"),
        ({"max_batch": True}, "'max_batch' is True"),
        ({"max_concurrent": 65}, "'max_concurrent' is 65"),
        ({"timeout_s": 0}, "'timeout_s' is 0"),
        ({"timeout_s": float("nan")}, "'timeout_s' is nan"),
        ({"timeout_s": "5"}, "'timeout_s' is '5'"),
        ({"takes": "text"}, "'takes' is 'text'"),
        ({"media_type": "a\r\nx: y"}, "'media_type' is "),
        ({"sample": object()}, "'sample' cannot be written as JSON"),
        ({"sample": {}, "takes": "bytes"}, "'sample' is a dict"),
        ({"predict": generator, "max_batch": 2}, "streams and has max_batch > 1"),
    ],
)
def test_what_is_declared_wrongly_is_refused_by_its_name(attributes: dict[str, Any], said: str) -> None:
    with pytest.raises(VersionError) as caught:
        declared_by(a_class(**attributes))

    assert caught.value.code == "BAD_HANDLER"
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["float32[N,10]", " float32 [ N , 10 ] "])
def test_spaces_mean_nothing_in_a_declared_tensor(text: str) -> None:
    assert parse_tensor("x", text) == TensorSpec("x", "float32", ("N", 10))
