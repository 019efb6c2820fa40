"""Changes are tried in the front first and written down when they are ready; what fails leaves what was served as it was."""

from __future__ import annotations

import base64
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_versions import add

from towline.app.serving.desired import desired_models
from towline.app.serving.model_control import ModelControl, Rules
from towline.app.serving.wishes import BeingConverted, check_path
from towline.core.deployment import Deployment, Limits, Policy
from towline.core.refs import Ref
from towline.store.sqlite import open_store


class HandClock:
    at_s = 1000.0

    def monotonic(self) -> float:
        return self.at_s

    def time(self) -> float:
        return self.at_s


class Desk:
    """A ModelControl on a real store, with the test as the front: it sees what is published and says what became of it."""

    def __init__(self, home: Path) -> None:
        self.store = open_store(home)
        self.clock = HandClock()
        self.sent: list[dict[str, Any]] = []
        self.watched: set[str] = set()
        self.folders: dict[str, tuple[int, ...]] = {}
        self.converting: set[str] = set()
        self.kept: list[Any] = []
        self.begin()

    def begin(self) -> None:
        """As a controller that is started, perhaps after another one died."""
        rules = Rules(10.0, lambda: self.watched, self._bring_in, lambda models, actor: self.kept.append((models, actor)))
        self.control = ModelControl(self.store, self.sent.append, self._import, rules, self.clock)

    def _bring_in(self, name: str, base_path: str, policy: Policy) -> tuple[int, ...]:
        check_path(name, base_path, self.folders)
        if name in self.converting:
            raise BeingConverted(name)
        return self.folders[base_path]

    def _import(self, source: Path, name: str, number: int, actor: str) -> None:
        add(self.store, name, source.read_bytes(), number, actor)

    def ask(self, own: str, content: bytes = b"", /, **ask: Any) -> None:
        descriptors = []
        if content:
            descriptors = [os.memfd_create("files")]
            os.write(descriptors[0], content)
        whole = {"config": "", "number": None, "alias": "", "files": [], "base64": False, **ask}
        self.control.take({"id": own, "actor": "tester", "ask": whole}, descriptors)
        self.control.step()

    def published(self) -> list[dict[str, Any]]:
        return desired_models(self.store, None, self.control.trial)

    def report(self, state: str = "ready", error: str = "") -> None:
        """The front has brought all that is published into this state."""
        found = [
            {"name": model["name"], "version": one["number"], "digest": one["digest"], "state": state, "error": error}
            for model in self.published()
            for one in model["versions"]
        ]
        self.control.look(found, self.published())

    def answers(self) -> dict[str, Any]:
        return {
            message["id"]: message.get("answer") or message["error"]["code"] for message in self.sent if message["do"] == "control-answer"
        }

    def deployed(self) -> dict[str, str]:
        return {one.name: str(one.policy) for one in self.store.deployments()}


@pytest.fixture
def desk() -> Iterator[Desk]:
    # In memory: what a power cut would leave is the store's own tests' to see.
    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    made = Desk(Path(folder.name) / "home")
    for content in (b"one", b"two"):
        add(made.store, "a", content)
    add(made.store, "b", b"one")
    made.store.put_deployment(Deployment("b"), actor="tester")
    yield made
    made.store.close()
    folder.cleanup()


def test_a_load_is_written_down_and_answered_once_the_front_is_ready(desk: Desk) -> None:
    desk.ask("1", verb="load", name="a")
    assert [model["name"] for model in desk.published()] == ["a", "b"]
    assert (desk.deployed(), desk.answers()) == ({"b": "latest"}, {})

    desk.report("loading")
    assert (desk.deployed(), desk.answers()) == ({"b": "latest"}, {})
    desk.report()
    assert (desk.deployed(), desk.answers()) == ({"a": "latest", "b": "latest"}, {"1": {"numbers": [2], "notes": []}})
    assert desk.control.trial == {}
    assert [(one.kind, one.actor, one.why) for one in desk.store.events(name="a")][-1] == ("deployment.changed", "tester", "model control")


def test_a_load_that_fails_is_told_why_and_leaves_no_trace_but_an_event(desk: Desk) -> None:
    desk.ask("1", verb="load", name="a")
    desk.report("failed", "It needs more memory.")

    assert desk.answers() == {"1": "LOAD_FAILED"}
    assert desk.sent[-1]["error"]["message"] == "a:2 could not be loaded: It needs more memory."
    assert [model["name"] for model in desk.published()] == ["b"]
    assert desk.deployed() == {"b": "latest"}
    event = desk.store.events(kind="deployment.refused")[-1]
    assert (event.name, event.actor, event.data["code"]) == ("a", "tester", "LOAD_FAILED")


def test_a_failed_load_of_what_is_served_leaves_it_as_it_was(desk: Desk) -> None:
    add(desk.store, "b", b"three")
    desk.ask("1", verb="load", name="b", number=2)
    desk.report("failed", "Broken.")

    assert desk.deployed() == {"b": "latest"}


@pytest.mark.parametrize(
    ("ask", "policy", "numbers"),
    [
        ({}, "latest", [2]),
        ({"number": 1}, "1", [1]),
        ({"alias": "champion"}, "@champion", [1]),
        ({"config": '{"version_policy": {"all": {}}}'}, "all", [1, 2]),
        ({"config": '{"version_policy": {"specific": {"versions": [1, 2]}}}'}, "1, 2", [1, 2]),
    ],
)
def test_a_load_chooses_versions_by_number_alias_or_policy(desk: Desk, ask: dict[str, Any], policy: str, numbers: list[int]) -> None:
    desk.store.set_alias("a", "champion", 1, actor="tester")
    desk.ask("1", verb="load", name="a", **ask)
    desk.report()

    assert (desk.deployed()["a"], desk.answers()["1"]["numbers"]) == (policy, numbers)


def test_a_plain_load_keeps_what_the_owner_decided(desk: Desk) -> None:
    desk.store.put_deployment(Deployment("a", Policy("specific", numbers=(1,)), {"stable": 1}, Limits(max_batch=4)), actor="owner")
    desk.ask("1", verb="load", name="a")
    desk.report()

    assert next(one for one in desk.store.deployments() if one.name == "a") == Deployment(
        "a", Policy("specific", numbers=(1,)), {"stable": 1}, Limits(max_batch=4), revision=1
    )


def test_a_configuration_sets_limits_and_its_notes_come_back(desk: Desk) -> None:
    desk.ask("1", verb="load", name="a", config='{"max_batch_size": 4, "instance_group": [{"count": 2}]}')
    desk.report()

    assert next(one for one in desk.store.deployments() if one.name == "a").limits == Limits(max_batch=4)
    assert len(desk.answers()["1"]["notes"]) == 1


@pytest.mark.parametrize("is_base64", [True, False])
def test_files_become_a_version_of_the_number_they_name(desk: Desk, is_base64: bool) -> None:
    content = base64.b64encode(b"sent") if is_base64 else b"sent"
    desk.ask("1", content, verb="load", name="c", config="{}", files=[["7/model.onnx", len(content)]], base64=is_base64)
    desk.report()

    assert desk.answers()["1"] == {"numbers": [7], "notes": []}
    version = desk.store.version(Ref("c", number=7))
    assert (version.path / "model.onnx").read_bytes() == b"sent"
    assert desk.deployed()["c"] == "7"
    assert [one.actor for one in desk.store.events(name="c", kind="version.imported")] == ["tester"]


def test_of_several_versions_that_were_sent_only_those_that_are_wanted_are_imported(desk: Desk) -> None:
    desk.ask("1", b"onetwo", verb="load", name="c", config="{}", files=[["1/model.onnx", 3], ["2/model.onnx", 3]])
    desk.report()

    assert desk.store.numbers("c") == (2,)


@pytest.mark.parametrize(
    ("ask", "files", "code"),
    [
        ({"name": "nobody"}, b"", "MODEL_NOT_FOUND"),
        ({"name": "a", "number": 9}, b"", "VERSION_NOT_FOUND"),
        ({"name": "a", "alias": "nobody"}, b"", "ALIAS_NOT_FOUND"),
        ({"name": "a", "config": '{"version_policy": {"specific": {"versions": [1, 9]}}}'}, b"", "VERSION_NOT_FOUND"),
        ({"name": "a", "config": "{"}, b"", "BAD_CONFIG"),
        ({"name": "../a"}, b"", "BAD_NAME"),
        ({"name": "c", "config": "{}", "files": [["1/weights.bin", 1]]}, b"x", "MODEL_FILE_MISSING"),
        ({"name": "c", "config": "{}", "files": [["1/model.onnx", 1]], "base64": True}, b"!", "BAD_BASE64"),
        ({"name": "c", "config": "{}", "files": [["1/model.onnx", 1], ["1/model.onnx/w", 1]]}, b"xx", "BAD_FILE_NAME"),
        ({"name": "a", "config": "{}", "files": [["1/model.onnx", 4]]}, b"else", "NUMBER_TAKEN"),
        ({"name": "A", "config": "{}", "files": [["1/model.onnx", 4]]}, b"else", None),
    ],
)
def test_what_cannot_be_loaded_is_refused_and_nothing_is_served_for_it(
    desk: Desk, ask: dict[str, Any], files: bytes, code: str | None
) -> None:
    before = desk.published()
    desk.ask("1", files, verb="load", **ask)

    assert desk.published() == before
    answered = desk.answers()["1"]
    assert answered == code if code else isinstance(answered, str)


def test_an_unload_is_written_down_once_the_front_has_let_go(desk: Desk) -> None:
    desk.ask("1", verb="unload", name="b")
    assert (desk.published(), desk.deployed()) == ([], {"b": "latest"})

    served = {"name": "b", "version": 1, "digest": desk.store.version(Ref("b")).digest, "error": ""}
    desk.control.look([{**served, "state": "ready"}], desk.published())
    assert desk.answers() == {}
    desk.control.look([{**served, "state": "draining"}], desk.published())
    assert (desk.deployed(), desk.answers()) == ({}, {"1": {"numbers": [], "notes": []}})


def test_an_unload_of_what_is_only_stored_is_done_already_and_of_what_nobody_knows_refused(desk: Desk) -> None:
    desk.ask("1", verb="unload", name="a")
    desk.ask("2", verb="unload", name="nobody")

    assert desk.answers() == {"1": {"numbers": [], "notes": []}, "2": "MODEL_NOT_FOUND"}


def test_what_a_stranger_calls_a_model_becomes_no_name_in_the_log_of_events(desk: Desk) -> None:
    desk.ask("1", verb="unload", name="nobody")

    assert [event.name for event in desk.store.events(kind="deployment.refused")] == [""]


def test_a_question_that_is_asked_again_is_carried_out_once_and_answered_again(desk: Desk) -> None:
    files = [["1/model.onnx", 4]]
    for _ in range(2):
        desk.ask("1", b"sent", verb="load", name="c", config="{}", files=files)
    desk.report()
    desk.ask("1", b"sent", verb="load", name="c", config="{}", files=files)

    assert [message["id"] for message in desk.sent] == ["1", "1"]
    assert [one.revision for one in desk.store.deployments() if one.name == "c"] == [1]


def test_changes_wait_their_turn(desk: Desk) -> None:
    desk.ask("1", verb="load", name="a", number=1)
    desk.ask("2", verb="load", name="a", number=2)
    assert desk.published()[0]["default"] == 1
    desk.report()
    desk.control.step()
    assert desk.published()[0]["default"] == 2
    desk.report()

    assert [answer["numbers"] for answer in desk.answers().values()] == [[1], [2]]
    assert desk.deployed()["a"] == "2"


def test_a_configuration_whose_model_is_being_converted_holds_up_no_other_change(desk: Desk) -> None:
    desk.folders, desk.converting = {"/models/a": (1, 2)}, {"a"}
    model = {"name": "a", "base_path": "/models/a", "policy": "latest", "count": 1, "numbers": [], "labels": {}}
    desk.ask("1", verb="reload", models=[model])
    assert desk.control.trial == {}
    desk.ask("2", verb="load", name="b")
    desk.report()
    assert list(desk.answers()) == ["2"]

    desk.converting = set()
    desk.control.step()
    desk.report()
    desk.control.look([], desk.published())
    assert desk.answers()["1"] == {"numbers": [2], "notes": []}
    assert desk.deployed() == {"a": "2"}


def test_a_load_that_never_ends_is_refused_and_the_front_is_asked_meanwhile(desk: Desk) -> None:
    desk.ask("1", verb="load", name="a")
    desk.control.keep_time()
    desk.clock.at_s += 0.5
    desk.control.keep_time()
    assert [message["do"] for message in desk.sent] == ["report"]

    desk.clock.at_s += 20
    desk.control.keep_time()
    assert desk.answers() == {"1": "DEADLINE_EXCEEDED"}
    assert [model["name"] for model in desk.published()] == ["b"]


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_controller_that_is_killed_before_it_answered_is_asked_again_and_ends_where_it_should(desk: Desk, verb: str) -> None:
    name = {"load": "a", "unload": "b"}[verb]
    before = desk.deployed()
    desk.ask("1", verb=verb, name=name)
    desk.begin()
    assert (desk.deployed(), desk.control.trial) == (before, {})

    for _ in range(2):
        desk.ask("1", verb=verb, name=name)
        desk.report()
        # The answer was lost with it as well.
        desk.begin()
    assert (name in desk.deployed()) == (verb == "load")


def test_a_model_whose_folder_is_watched_is_changed_by_the_folder_alone(desk: Desk) -> None:
    desk.watched = {"b"}
    desk.ask("1", verb="unload", name="b")
    desk.ask("2", verb="load", name="b", number=1)
    desk.ask("3", verb="load", name="b")
    desk.report()

    assert [desk.answers()[own] for own in "12"] == ["MODEL_WATCHED"] * 2
    assert desk.answers()["3"]["numbers"] == [1]


def test_a_descriptor_that_came_with_a_question_is_closed_whatever_becomes_of_it(desk: Desk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    desk.ask("1", b"x", verb="load", name="c", config="{", files=[["1/model.onnx", 1]])
    desk.ask("2", b"x", verb="load", name="c", config="{}", files=[["1/model.onnx", 1]])
    desk.ask("2", b"x", verb="load", name="c", config="{}", files=[["1/model.onnx", 1]])

    # What tests before this one left may be closed meanwhile.
    assert len(os.listdir("/proc/self/fd")) <= before


def model(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "base_path": "", "policy": "latest", "count": 1, "numbers": [], "labels": {}, **more}


def test_a_reload_serves_what_it_names_and_nothing_else(desk: Desk) -> None:
    desk.ask("1", verb="reload", models=[model("a", policy="specific", numbers=[1, 2], labels={"stable": 1})])
    assert [one["name"] for one in desk.published()] == ["a"]
    desk.report()

    assert desk.deployed() == {"a": "1, 2"}
    assert desk.answers() == {"1": {"numbers": [1, 2], "notes": []}}


@pytest.mark.parametrize(
    ("models", "code"),
    [
        ([model("a"), model("a")], "DUPLICATE_MODEL"),
        ([model("a", labels={"stable": 1})], "LABEL_UNAVAILABLE"),
        ([model("a", policy="specific", numbers=[1, 9])], "VERSION_NOT_FOUND"),
        ([model("nobody")], "MODEL_NOT_FOUND"),
        ([model("a", base_path="/etc")], "PLACE_NOT_ALLOWED"),
        ([model("b"), model("a", base_path="/models/../etc")], "PLACE_NOT_ALLOWED"),
    ],
)
def test_a_bad_reload_is_refused_whole(desk: Desk, models: list[dict[str, Any]], code: str) -> None:
    desk.folders = {"/models": (1,)}
    desk.ask("1", verb="reload", models=models)

    assert (desk.answers()["1"], desk.control.trial, desk.deployed(), desk.kept) == (code, {}, {"b": "latest"}, [])


def test_a_reload_of_a_watched_folder_serves_what_its_policy_chooses_there_and_is_kept_once_it_is_ready(desk: Desk) -> None:
    desk.watched, desk.folders = {"a", "b"}, {"/models/a": (1,)}
    models = [model("a", base_path="/models/a")]
    desk.ask("1", verb="reload", models=models)
    assert desk.kept == []
    desk.report()

    assert (desk.deployed(), desk.kept) == ({"a": "1"}, [(models, "tester")])
