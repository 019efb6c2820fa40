"""The table of methods that every transport of gRPC shares, and what stands before it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from asking import Asking
from bad_inputs import MODELS
from calling import Asker
from calling import Refused as Seen
from plane import HonestPlane, version

from towline.core.errors import Kind, TowlineError
from towline.serve.codecs.check import Limits
from towline.serve.protocols.grpc.contract import Call, Code, Metadata, Refused, joined
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.service import Service


def deny(path: str, metadata: Metadata) -> None:
    if metadata.get("authorization") != "Bearer right":
        raise TowlineError(f"No key for {path}.", kind=Kind.DENIED, code="NO_KEY")


@pytest.fixture(scope="module")
def plane() -> HonestPlane:
    return HonestPlane(version("m", MODELS["m"]))


def described() -> dict[str, bool]:
    """Every method of our descriptors, and whether it streams."""
    services = [MESSAGES.pool.FindServiceByName(name) for name in MESSAGES.services]
    return {f"/{service.full_name}/{method.name}": method.server_streaming for service in services for method in service.methods}


def test_every_method_that_is_described_is_in_the_table(plane: HonestPlane) -> None:
    methods = Service(plane, Limits(), control=Asking()).methods

    assert {path for path, streams in described().items() if not streams} == set(methods.unary)
    assert {path for path, streams in described().items() if streams} == set(methods.streams)


def test_without_its_key_no_method_reads_a_message(plane: HonestPlane) -> None:
    methods = Service(plane, Limits(), deny, Asking()).methods
    asker = Asker(methods.unary)

    for path in methods.unary:
        with pytest.raises(Seen) as caught:
            asker.raw(path[1:], b"\xff no message")
        assert (caught.value.status, caught.value.code) == (grpc.StatusCode.PERMISSION_DENIED, "NO_KEY"), path
    for stream in methods.streams.values():
        assert asyncio.run(refusal_of_stream(stream.method)) == Code.PERMISSION_DENIED
    assert asker.raw("inference.GRPCInferenceService/ServerLive", b"", metadata={"authorization": "Bearer right"})


async def refusal_of_stream(method: Any) -> Code:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("nothing of a stream is read before its key")
        yield b""

    with pytest.raises(Refused) as caught:
        await anext(method(never(), Call(0.0)))
    return caught.value.refusal.code


def test_what_came_twice_is_joined_and_so_never_mistaken_for_one_value() -> None:
    pairs = [("a", "1"), ("b-bin", b"\0"), ("a", "2"), ("b-bin", b"\1"), ("c", "3")]

    assert joined(pairs) == {"a": "1,2", "b-bin": b"\0,\1", "c": "3"}


def test_the_table_needs_no_grpc() -> None:
    code = "import sys, towline.serve.protocols.grpc.service; print('grpc' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=180, check=True).stdout == "False\n"
