"""Aliases and deployments: moved in one step, only by who saw the state they change."""

from __future__ import annotations

import pytest
from store_making import add

from towline.core.deployment import Deployment, Limits, Policy
from towline.core.errors import Conflict, InvalidRequest, NotFound
from towline.core.refs import Ref
from towline.core.store import AliasMove
from towline.store.deployments import needed_by
from towline.store.sqlite import SqliteStore


def test_an_alias_moves_and_its_history_stays(store: SqliteStore) -> None:
    add(store, "digits", 1)
    add(store, "digits", 2)
    store.set_alias("digits", "champion", 1, actor="ann", why="first")
    store.set_alias("digits", "champion", 2, actor="bob", why="better", expected=1)
    store.set_alias("digits", "champion", None, actor="cid")

    at_s = 1_700_001_000.0
    assert store.aliases() == {}
    assert store.alias_history("digits") == [
        AliasMove("champion", 1, "ann", "first", at_s),
        AliasMove("champion", 2, "bob", "better", at_s),
        AliasMove("champion", None, "cid", "", at_s),
    ]
    assert store.events()[-1].data == {"alias": "champion", "number": None, "previous": 2}
    store.remove(Ref("digits", 2), actor="tester")
    assert len(store.alias_history("digits")) == 3


def test_an_alias_that_was_moved_meanwhile_is_not_moved_again(store: SqliteStore) -> None:
    add(store, "digits", 1)
    add(store, "digits", 2)

    with pytest.raises(Conflict, match="points at nothing, not at version 1"):
        store.set_alias("digits", "champion", 2, actor="tester", expected=1)
    store.set_alias("digits", "champion", 2, actor="tester")
    with pytest.raises(Conflict, match="points at version 2, not at version 1"):
        store.set_alias("digits", "champion", None, actor="tester", expected=1)
    assert store.aliases("digits") == {"digits": {"champion": 2}}


def test_pointing_an_alias_where_it_points_is_no_event(store: SqliteStore) -> None:
    add(store, "digits", 1)
    for _ in range(2):
        store.set_alias("digits", "champion", 1, actor="tester")

    assert [event.kind for event in store.events()] == ["version.imported", "alias.moved"]
    assert len(store.alias_history("digits")) == 1


@pytest.mark.parametrize("alias", ["", "7", "a/b", "x" * 65])
def test_a_bad_alias_is_refused_by_name(store: SqliteStore, alias: str) -> None:
    add(store, "digits", 1)

    with pytest.raises(InvalidRequest, match="cannot name an alias"):
        store.set_alias("digits", alias, 1, actor="tester")


def test_an_alias_needs_a_version_and_a_removal_needs_an_alias(store: SqliteStore) -> None:
    add(store, "digits", 1)

    with pytest.raises(NotFound, match=r"digits has no version 2\. It has: 1"):
        store.set_alias("digits", "champion", 2, actor="tester")
    with pytest.raises(NotFound, match=r"no alias 'champion'\. It has: none"):
        store.set_alias("digits", "champion", None, actor="tester")


def test_an_alias_that_a_deployment_follows_stays(store: SqliteStore) -> None:
    add(store, "digits", 1)
    store.set_alias("digits", "champion", 1, actor="tester")
    store.put_deployment(Deployment("digits", Policy("alias", alias="champion")), actor="tester")

    with pytest.raises(Conflict, match="the deployment 'digits' serves what it points at"):
        store.set_alias("digits", "champion", None, actor="tester")
    store.remove_deployment("digits", actor="tester")
    store.set_alias("digits", "champion", None, actor="tester")


def test_a_deployment_comes_back_as_it_was_put(store: SqliteStore) -> None:
    wanted = Deployment("digits", Policy("specific", numbers=(1, 3)), {"stable": 1}, Limits(max_batch=4, timeout_s=0.5))
    first = store.put_deployment(wanted, actor="tester", why="start")
    assert first.revision == 1
    assert store.deployments() == (first,)

    second = store.put_deployment(Deployment("digits", revision=1), actor="tester")
    assert store.deployments() == (second,)
    told = store.events()[0]
    assert (told.kind, told.why, told.data["deployment"]["policy"]["numbers"]) == ("deployment.changed", "start", [1, 3])


def test_a_deployment_decided_on_an_old_revision_is_refused(store: SqliteStore) -> None:
    store.put_deployment(Deployment("digits"), actor="ann")

    for stale in (0, 2):
        with pytest.raises(Conflict, match=f"at revision 1, not {stale}"):
            store.put_deployment(Deployment("digits", revision=stale), actor="bob")
    assert store.deployments()[0].revision == 1


def test_a_deployment_that_is_not_there_is_named(store: SqliteStore) -> None:
    store.put_deployment(Deployment("digits"), actor="tester")

    with pytest.raises(NotFound, match=r"no deployment 'faces'\. There is: digits"):
        store.remove_deployment("faces", actor="tester")
    store.remove_deployment("digits", actor="tester", why="over")
    assert store.deployments() == ()
    assert store.events()[-1].data == {"revision": 1}


@pytest.mark.parametrize(
    ("aliases", "deployed", "needed"),
    [
        ({}, None, ""),
        ({"champion": 2}, None, "alias m@champion"),
        ({"champion": 1}, Deployment("m"), ""),
        ({}, Deployment("m", Policy("all")), "serves it (all)"),
        ({}, Deployment("m", Policy("latest", 2)), "serves it (latest 2)"),
        ({}, Deployment("m", Policy("specific", numbers=(2,))), "serves it (2)"),
        ({}, Deployment("m", Policy("specific", numbers=(1,)), {"old": 2}), "label 'old'"),
    ],
)
def test_what_needs_version_2_of_3(aliases: dict[str, int], deployed: Deployment | None, needed: str) -> None:
    found = needed_by("m", 2, (1, 2, 3), aliases, deployed)

    assert needed in found
    assert bool(found) == bool(needed)
