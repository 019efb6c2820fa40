"""A question to the controller is asked until it is answered, and given up when nobody is there to hear it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from towline.core.errors import DeadlineExceeded, Kind, NotFound, Overloaded, TowlineError, Unavailable
from towline.serve import control as module
from towline.serve.contract import Asked, VersionStatus
from towline.serve.control import FrontControl


class Statuses:
    """What an index needs of a plane."""

    def __init__(self, **models: list[VersionStatus]) -> None:
        self._models = models

    def known(self) -> set[str]:
        return set(self._models)

    def status(self, name: str) -> list[VersionStatus]:
        if name not in self._models:
            raise NotFound(name)
        return self._models[name]


class Line:
    """Messages on their way to the controller. `hear` is called with each, and may answer."""

    def __init__(self, hear: Callable[[Line, dict[str, Any]], None] = lambda line, message: None, *, timeout_s: float = 60.0) -> None:
        self.sent: list[dict[str, Any]] = []
        self.contents: list[bytes] = []
        self._hear = hear
        self.control = FrontControl(Statuses(), self.send, is_allowed=True, timeout_s=timeout_s, max_bytes=10)  # type: ignore[arg-type]

    def send(self, message: dict[str, Any], descriptors: tuple[int, ...]) -> None:
        self.sent.append(message)
        for descriptor in descriptors:
            self.contents.append(os.pread(descriptor, 1 << 20, 0))
        self._hear(self, message)

    def answer(self, message: dict[str, Any], **content: Any) -> None:
        asyncio.get_running_loop().call_soon(self.control.on_message, {"do": "control-answer", "id": message["id"], **content})


LOADED = {"answer": {"numbers": [3], "notes": ["so"]}}


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0.01)
    monkeypatch.setattr(module, "_AWAY_AFTER_S", 0.3)


def test_the_answer_comes_back_to_who_asked() -> None:
    async def ask() -> Any:
        line = Line(lambda line, message: line.answer(message, **LOADED))
        loaded = await line.control.load("mlp", Asked(number=3), actor="tester")
        return loaded.numbers, loaded.notes, line.sent[0]["actor"], line.sent[0]["ask"]["number"]

    assert run(ask()) == ((3,), ("so",), "tester", 3)


def test_files_travel_beside_the_question_in_one_piece() -> None:
    async def ask() -> Any:
        line = Line(lambda line, message: line.answer(message, **LOADED))
        before = set(os.listdir("/proc/self/fd"))
        await line.control.load("mlp", Asked(config="{}", files={"1/model.onnx": b"model", "1/w.bin": b"weights"}), actor="tester")
        return line.contents, line.sent[0]["ask"]["files"], set(os.listdir("/proc/self/fd")) <= before

    assert run(ask()) == ([b"modelweights"], [["1/model.onnx", 5], ["1/w.bin", 7]], True)


@pytest.mark.usefixtures("quick")
def test_a_controller_that_died_half_way_is_asked_again_with_the_same_id_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AWAY_AFTER_S", 60)

    async def ask() -> Any:
        def hear(line: Line, message: dict[str, Any]) -> None:
            if len(line.sent) == 3:
                line.answer(message, **LOADED)

        line = Line(hear)
        await line.control.load("mlp", Asked(config="{}", files={"1/model.onnx": b"model"}), actor="tester")
        return len({message["id"] for message in line.sent}), line.contents

    assert run(ask()) == (1, [b"model"] * 3)


@pytest.mark.usefixtures("quick")
def test_a_controller_that_is_away_is_told_with_a_time_to_come_again() -> None:
    with pytest.raises(Unavailable) as raised:
        run(Line().control.unload("mlp", actor="tester"))
    assert raised.value.code == "CONTROLLER_AWAY"
    assert raised.value.retry_after_s


@pytest.mark.usefixtures("quick")
def test_a_controller_that_says_it_is_at_it_is_waited_for_until_the_time_is_up() -> None:
    def hear(line: Line, message: dict[str, Any]) -> None:
        line.control.on_message({"do": "control-heard", "id": message["id"]})

    # Who is held up for longer than a controller may be silent has heard nothing for so long: that is tried again.
    for timeout_s in (0.7, 0.7, 0.7, 0.7, 0.7):
        with pytest.raises((DeadlineExceeded, Unavailable)) as raised:
            run(Line(hear, timeout_s=timeout_s).control.unload("mlp", actor="tester"))
        if isinstance(raised.value, DeadlineExceeded):
            return
    pytest.fail("a controller that is at it was told as away")


def test_a_refusal_keeps_its_kind_code_and_words() -> None:
    said = {"message": "Broken", "code": "LOAD_FAILED", "field": "x", "hint": "Try.", "kind": "conflict", "retry_after_s": None}

    async def ask() -> None:
        await Line(lambda line, message: line.answer(message, error=said)).control.unload("mlp", actor="tester")

    with pytest.raises(TowlineError, match="Broken") as raised:
        run(ask())
    assert (raised.value.kind, raised.value.code, raised.value.hint) == (Kind.CONFLICT, "LOAD_FAILED", "Try.")


def test_questions_beyond_the_bound_are_refused_at_once_and_leave_when_their_clients_do() -> None:
    async def ask() -> Any:
        line = Line()
        tasks = [asyncio.ensure_future(line.control.unload("mlp", actor="tester")) for _ in range(16)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await line.control.unload("mlp", actor="tester")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        sent = len(line.sent)
        task = asyncio.ensure_future(line.control.unload("mlp", actor="tester"))
        await asyncio.sleep(0)
        task.cancel()
        return sent, len(line.sent)

    assert run(ask()) == (16, 17)


def test_files_beyond_the_bound_are_refused_unless_nobody_else_waits() -> None:
    async def ask() -> Any:
        line = Line()
        first = asyncio.ensure_future(line.control.load("a", Asked(config="{}", files={"1/model.onnx": b"x" * 11}), actor="tester"))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await line.control.load("b", Asked(config="{}", files={"1/model.onnx": b"x"}), actor="tester")
        # What holds no file waits with it.
        second = asyncio.ensure_future(line.control.unload("c", actor="tester"))
        await asyncio.sleep(0)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        return [message["ask"]["name"] for message in line.sent if message["ask"]["name"] == "c"]

    assert run(ask()) == ["c"]


def test_a_client_that_leaves_while_its_files_are_written_leaves_no_descriptor_behind() -> None:
    async def ask() -> Any:
        line = Line()
        # What the loop opens for its threads is opened.
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        before = len(os.listdir("/proc/self/fd"))
        task = asyncio.ensure_future(line.control.load("a", Asked(config="{}", files={"1/model.onnx": bytes(8 << 20)}), actor="tester"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # The same threads: when this is done, so is what was before it.
        await asyncio.get_running_loop().shutdown_default_executor()
        await asyncio.sleep(0)
        return len(os.listdir("/proc/self/fd")) - before, line.sent

    assert run(ask()) == (0, [])


def test_an_answer_to_what_nobody_asked_is_passed_over() -> None:
    async def hear() -> None:
        Line().control.on_message({"do": "control-answer", "id": "another front's", **LOADED})

    run(hear())


@pytest.mark.parametrize("verb", ["load", "unload", "reload"])
def test_nobody_is_asked_where_clients_may_not_change_anything(verb: str) -> None:
    sent: list[Any] = []
    control = FrontControl(Statuses(), lambda *message: sent.append(message), is_allowed=False, timeout_s=1.0, max_bytes=10)  # type: ignore[arg-type]
    asked = {
        "load": lambda: control.load("mlp", Asked(), actor="tester"),
        "unload": lambda: control.unload("mlp", actor="tester"),
        "reload": lambda: control.reload([], actor="tester"),
    }
    with pytest.raises(TowlineError, match="Clients may not") as raised:
        run(asked[verb]())

    assert (raised.value.kind, "--model-control explicit" in raised.value.hint, sent) == (Kind.DENIED, True, [])


def test_a_name_that_could_be_a_path_is_refused_here() -> None:
    with pytest.raises(TowlineError, match="cannot name a model"):
        run(Line().control.load("../etc", Asked(), actor="tester"))


def test_the_index_has_tritons_words_for_every_state_and_the_models_that_are_only_stored() -> None:
    plane = Statuses(
        mlp=[VersionStatus(3, "LOADING"), VersionStatus(2, "AVAILABLE"), VersionStatus(1, "UNLOADING")],
        old=[VersionStatus(2, "END", "It broke."), VersionStatus(1, "END")],
        new=[],
    )
    control = FrontControl(plane, lambda *message: None, is_allowed=False, timeout_s=1.0, max_bytes=10)  # type: ignore[arg-type]
    control.know(["mlp", "idle"])

    assert [(one.name, one.version, one.state, one.reason) for one in control.repository_index()] == [
        ("idle", None, "UNAVAILABLE", "not loaded"),
        ("mlp", 3, "LOADING", ""),
        ("mlp", 2, "READY", ""),
        ("mlp", 1, "UNLOADING", ""),
        ("new", None, "UNAVAILABLE", "not loaded"),
        ("old", 2, "UNAVAILABLE", "It broke."),
        ("old", 1, "UNAVAILABLE", "unloaded"),
    ]
