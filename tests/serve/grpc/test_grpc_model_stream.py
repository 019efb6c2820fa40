"""ModelStreamInfer without a socket: order, errors, back-pressure and the end of a stream."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec
import numpy as np
import pytest
from bad_inputs import MODELS
from plane import HonestPlane, OneVersion, version

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.core.manifest import Handler
from towline.serve.codecs.check import Limits
from towline.serve.contract import Done
from towline.serve.protocols.grpc.contract import Call, Code, Refused
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.openinference import streams
from towline.serve.protocols.grpc.openinference_stream import MAX_IN_FLIGHT

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"
Infer = MESSAGES["inference.ModelInferRequest"]
Told = MESSAGES["inference.ModelStreamInferResponse"]


class SlowPlane(HonestPlane):
    """Answers a request when told to; remembers which were given up."""

    def __init__(self, *versions: OneVersion) -> None:
        super().__init__(*versions)
        self.waiting: list[Callable[[], None]] = []
        self.given_up: list[str] = []
        self.news = asyncio.Event()

    def infer(self, served: OneVersion, request: Request, done: Done, *, protocol: str) -> Callable[[], None]:
        self.requests.append(request)
        self.waiting.append(lambda: done(Response(dict(request.inputs, y=request.inputs["x"]), served.name, served.number)))
        self.news.set()
        return lambda: self.given_up.append(request.id)

    async def has(self, count: int) -> None:
        while len(self.requests) < count:
            self.news.clear()
            await self.news.wait()


@pytest.fixture(scope="module")
def model() -> OneVersion:
    return version("m", MODELS["m"])


def request(id: str, width: int = 2, model: str = "m", **parameters: Any) -> bytes:
    data = np.ones((1, width), "<f4").tobytes()
    inputs = [{"name": "x", "datatype": "FP32", "shape": [1, width]}]
    raw: bytes = Infer(model_name=model, id=id, inputs=inputs, raw_input_contents=[data], parameters=parameters).SerializeToString()
    return raw


async def each(*messages: bytes) -> AsyncIterator[bytes]:
    for message in messages:
        yield message


async def endless(*messages: bytes) -> AsyncIterator[bytes]:
    """A client that keeps its side open."""
    for message in messages:
        yield message
    await asyncio.Event().wait()


def stream(plane: HonestPlane, requests: AsyncIterator[bytes], **metadata: str) -> AsyncGenerator[bytes, None]:
    return streams(plane, Limits())[PATH].method(requests, Call(0.0, None, metadata))


async def told(answers: AsyncGenerator[bytes, None]) -> list[Any]:
    return [Told.FromString(answer) async for answer in answers]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


def test_every_request_is_answered_in_order_and_the_stream_ends_with_the_client(model: OneVersion) -> None:
    answers = run(told(stream(HonestPlane(model), each(*(request(str(number)) for number in range(200))))))

    assert [answer.infer_response.id for answer in answers] == [str(number) for number in range(200)]
    assert {bytes(answer.infer_response.raw_output_contents[0]) for answer in answers} == {np.ones((1, 2), "<f4").tobytes()}
    assert not any(answer.error_message for answer in answers)


def test_answers_keep_the_order_of_their_requests_whichever_is_ready_first(model: OneVersion) -> None:
    async def play() -> list[str]:
        plane = SlowPlane(model)
        talk = asyncio.ensure_future(told(stream(plane, each(request("a"), request("b"), request("c")))))
        await plane.has(3)
        for answer in reversed(plane.waiting):
            answer()
            # Time for whoever would write it at once.
            for _ in range(20):
                await asyncio.sleep(0)
        return [answer.infer_response.id for answer in await talk]

    assert run(play()) == ["a", "b", "c"]


def test_an_error_is_a_message_with_the_id_of_its_request_and_the_stream_goes_on(model: OneVersion) -> None:
    wrong, garbage, right = run(told(stream(HonestPlane(model), each(request("a", width=3), b"\xff", request("c")))))

    assert "[N, 2]" in wrong.error_message
    assert wrong.infer_response.id == "a"
    assert "is no inference.ModelInferRequest" in garbage.error_message
    assert (right.error_message, right.infer_response.id) == ("", "c")


def test_a_client_that_asks_for_it_gets_the_first_error_as_the_status_of_the_stream(model: OneVersion) -> None:
    async def play() -> tuple[bytes, Refused]:
        answers = stream(HonestPlane(model), endless(request("a"), request("b", width=3)), triton_grpc_error="true")
        first = await anext(answers)
        with pytest.raises(Refused) as caught:
            await anext(answers)
        return first, caught.value

    first, error = run(play())

    assert Told.FromString(first).infer_response.id == "a"
    assert error.refusal.code is Code.INVALID_ARGUMENT
    assert ("towline-code", "SHAPE_MISMATCH") in error.refusal.trailers


def test_the_last_part_says_so_where_the_client_asked_and_only_there(model: OneVersion) -> None:
    asks = {"triton_enable_empty_final_response": {"bool_param": True}}
    one, other, wrong = run(told(stream(HonestPlane(model), each(request("a", **asks), request("b"), request("c", width=3, **asks)))))

    assert one.infer_response.parameters["triton_final_response"].bool_param is True
    assert one.infer_response.raw_output_contents
    assert "triton_final_response" not in other.infer_response.parameters
    assert wrong.infer_response.parameters["triton_final_response"].bool_param is True


def test_a_client_that_reads_nothing_is_given_only_so_much_to_do(model: OneVersion) -> None:
    async def play() -> tuple[int, int]:
        plane = HonestPlane(model)
        answers = stream(plane, each(*(request(str(number)) for number in range(10 * MAX_IN_FLIGHT))))
        await anext(answers)
        for _ in range(1000):
            await asyncio.sleep(0)
        unread = len(plane.requests)
        return unread, 1 + len(await told(answers))

    unread, answered = run(play())

    # The one that was read frees its place when the next is asked for.
    assert unread == MAX_IN_FLIGHT
    assert answered == 10 * MAX_IN_FLIGHT


def test_a_stream_that_is_given_up_gives_up_what_it_runs_and_nothing_else(model: OneVersion) -> None:
    async def play() -> list[str]:
        plane = SlowPlane(model)
        talk = asyncio.ensure_future(told(stream(plane, endless(request("a"), request("b"), request("c")))))
        await plane.has(3)
        plane.waiting[0]()
        await asyncio.sleep(0)
        talk.cancel()
        await asyncio.gather(talk, return_exceptions=True)
        return plane.given_up

    assert run(play()) == ["b", "c"]


def test_a_client_side_that_breaks_ends_the_stream_without_its_words(model: OneVersion, caplog: pytest.LogCaptureFixture) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield request("a")
        raise ZeroDivisionError("secret")

    async def play() -> Refused:
        with pytest.raises(Refused) as caught:
            await told(stream(HonestPlane(model), breaks()))
        return caught.value

    error = run(play())

    assert error.refusal.code is Code.INTERNAL
    assert "secret" not in error.refusal.message
    assert "ZeroDivisionError" in caplog.text


# Answers in parts


class Parts(HonestPlane):
    """Answers each request with its input `count` times, part by part, and then with `end` if it is an error; remembers what it did."""

    def __init__(self, *versions: OneVersion, count: int, end: TowlineError | None = None) -> None:
        super().__init__(*versions)
        self.count, self.end = count, end
        self.told: list[str] = []
        self.given_up: list[str] = []

    def infer(self, served: OneVersion, request: Request, done: Done, *, protocol: str, on_part: Any = None) -> Callable[[], None]:
        assert on_part is not None
        left = self.count

        def more() -> None:
            nonlocal left
            if not left:
                done(self.end or Response({}, served.name, served.number))
                return
            left -= 1
            self.told.append(request.id)
            on_part(Response({"y": request.inputs["x"]}, served.name, served.number), more)

        more()
        return lambda: self.given_up.append(request.id)


def in_parts(model: OneVersion) -> OneVersion:
    handler = Handler("Speaker", streams=True)
    return dataclasses.replace(model, manifest=msgspec.structs.replace(model.manifest, handler=handler))


ASKS = {"triton_enable_empty_final_response": {"bool_param": True}}


def test_each_part_is_a_message_and_the_end_is_one_only_where_the_client_asked(model: OneVersion) -> None:
    answers = run(told(stream(Parts(in_parts(model), count=3), each(request("a"), request("b", **ASKS)))))

    said = [
        (one.infer_response.id, len(one.infer_response.outputs), one.infer_response.parameters["triton_final_response"].bool_param)
        for one in answers
    ]
    assert sorted(said) == [("a", 1, False)] * 3 + [("b", 0, True)] + [("b", 1, False)] * 3
    assert [one for one in said if one[0] == "b"][-1] == ("b", 0, True)


def test_the_next_part_is_made_when_the_last_one_is_written(model: OneVersion) -> None:
    async def play() -> list[int]:
        plane = Parts(in_parts(model), count=5)
        answers = stream(plane, each(request("a")))
        made = []
        for _ in range(5):
            await anext(answers)
            for _ in range(20):
                await asyncio.sleep(0)
            made.append(len(plane.told))
        await answers.aclose()
        return made

    assert run(play()) == [1, 2, 3, 4, 5]


def test_an_error_among_the_parts_is_a_message_after_those_that_came(model: OneVersion) -> None:
    plane = Parts(in_parts(model), count=2, end=TowlineError("The handler broke.", code="HANDLER_FAILED"))

    *parts, last = run(told(stream(plane, each(request("a")))))

    assert [len(part.infer_response.outputs) for part in parts] == [1, 1]
    assert (last.error_message, last.infer_response.id) == ("The handler broke.", "a")


def test_parts_do_not_wait_for_a_whole_answer_that_was_asked_for_before(model: OneVersion) -> None:
    class Both(Parts):
        def infer(self, served: Any, request: Request, done: Done, *, protocol: str, on_part: Any = None) -> Callable[[], None]:
            if on_part is None:
                self.answer_late = lambda: done(Response({"y": request.inputs["x"]}, served.name, served.number))
                return lambda: None
            return super().infer(served, request, done, protocol=protocol, on_part=on_part)

    async def play() -> list[str]:
        plane = Both(model, dataclasses.replace(in_parts(model), name="speaker"), count=2)
        answers = stream(plane, each(request("whole"), request("parts", model="speaker")))
        seen = [Told.FromString(await anext(answers)).infer_response.id for _ in range(2)]
        plane.answer_late()
        return seen + [one.infer_response.id for one in await told(answers)]

    assert run(play()) == ["parts", "parts", "whole"]


def test_a_part_that_cannot_be_written_ends_its_request_and_gives_it_up(model: OneVersion) -> None:
    class Nonsense(Parts):
        def infer(self, served: Any, request: Request, done: Done, *, protocol: str, on_part: Any = None) -> Callable[[], None]:
            asyncio.get_running_loop().call_soon(on_part, Response({}, served.name, served.number), lambda: None)
            return lambda: self.given_up.append(request.id)

    plane = Nonsense(in_parts(model), count=0)
    (only,) = run(told(stream(plane, each(request("a")))))

    assert only.error_message.startswith("The server failed")
    assert plane.given_up == ["a"]
