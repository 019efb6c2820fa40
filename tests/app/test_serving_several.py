"""What one command line asks for: several versions of a name by their numbers, one thing otherwise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from towline.app.importing.model import import_model
from towline.app.serving.desired import check_names, together, version_meant
from towline.core.deployment import Deployment, Policy
from towline.core.errors import NotFound, UsageError
from towline.core.refs import parse_ref
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

LATEST, CHAMPION = Policy("latest"), Policy("alias", alias="champion")


def only(*numbers: int) -> Policy:
    return Policy("specific", numbers=numbers)


@pytest.mark.parametrize(
    ("asked", "served"),
    [
        ([only(1), only(3), only(2)], only(1, 2, 3)),
        ([only(2), only(2)], only(2)),
        ([LATEST, LATEST], LATEST),
        ([CHAMPION, CHAMPION], CHAMPION),
    ],
)
def test_versions_named_by_number_are_served_side_by_side(asked: list[Policy], served: Policy) -> None:
    found = together([Deployment("birds"), *(Deployment("digits", policy) for policy in asked)])

    assert found == {"birds": Deployment("birds"), "digits": Deployment("digits", served)}


@pytest.mark.parametrize("asked", [[only(1), CHAMPION], [LATEST, only(1)], [CHAMPION, Policy("alias", alias="old")]])
def test_a_name_cannot_follow_two_things(asked: list[Policy]) -> None:
    with pytest.raises(UsageError, match="'digits' is asked for in two ways") as refused:
        together(Deployment("digits", policy) for policy in asked)

    assert "digits:1 digits:2" in refused.value.hint


@pytest.mark.parametrize(("files", "names", "wished"), [(["a.onnx"], ["a"], ["a"]), (["x/a.onnx", "y/a.onnx"], ["a", "a"], [])])
def test_a_file_does_not_take_the_name_of_something_else_that_is_asked_for(files: list[str], names: list[str], wished: list[str]) -> None:
    with pytest.raises(UsageError, match=f"'{files[-1]}' would be served as 'a'"):
        check_names(files, names, wished)
    check_names(files[-1:], names[-1:], ["b"])


def test_a_folder_that_was_meant_is_told_how_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowers").mkdir()
    monkeypatch.chdir(tmp_path)

    with open_store(tmp_path / "home") as store, pytest.raises(NotFound, match="no model 'flowers'") as missing:
        version_meant(store, parse_ref("flowers"))
    assert "./flowers" in missing.value.hint


def test_two_versions_that_are_named_are_both_answered_from(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for number in (1, 2):
        import_model(tiny_models.write(tmp_path, tiny_models.mlp(seed=number), f"{number}.onnx"), name="mlp", home=home)

    with RunningServer("mlp:1", "mlp:2", home=home) as server:
        told = json.loads(server.get("/v1/models/mlp")[1])["model_version_status"]

    assert {one["version"]: one["state"] for one in told} == {"1": "AVAILABLE", "2": "AVAILABLE"}
