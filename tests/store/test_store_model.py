"""Whatever is done in whatever order, the store says the same as a few dictionaries do."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from store_making import HandClock, add, complaints, fast_folder

from towline.core.deployment import Deployment, Policy, chosen_numbers
from towline.core.errors import Conflict, NotFound
from towline.core.refs import Ref
from towline.store.sqlite import open_store

NAMES = st.sampled_from(["a", "b", "A"])
ALIASES = st.sampled_from(["champion", "next"])
NUMBERS = st.integers(1, 4)
POLICIES = st.sampled_from(
    [Policy(), Policy("all"), Policy("latest", 2), Policy("specific", numbers=(1, 3)), Policy("alias", alias="next")]
)


def wished(put: dict[str, Policy | None]) -> dict[str, Deployment | None]:
    return {name: None if policy is None else Deployment(name, policy) for name, policy in put.items()}


class StoreAgainstDictionaries(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.made = fast_folder()
        self.home = Path(self.made.name) / "home"
        self.store = open_store(self.home, clock=HandClock())
        self.versions: dict[str, dict[int, int]] = {}
        self.last: dict[str, int] = {}
        self.aliases: dict[str, dict[str, int]] = {}
        self.deployed: dict[str, Deployment] = {}
        self.changes = 0

    def teardown(self) -> None:
        assert complaints(self.store) == []
        self.store.close()
        self.made.cleanup()

    def other_case_is_used(self, name: str) -> bool:
        used = {model for model, versions in self.versions.items() if versions} | set(self.deployed)
        return any(other != name and other.lower() == name.lower() for other in used)

    @rule(name=NAMES, seed=st.integers(0, 3))
    def add(self, name: str, seed: int) -> None:
        if self.other_case_is_used(name):
            with pytest.raises(Conflict):
                add(self.store, name, seed)
            return
        known = {content: number for number, content in self.versions.get(name, {}).items()}
        version = add(self.store, name, seed)
        if seed in known:
            assert version.number == known[seed]
            return
        self.last[name.lower()] = self.last.get(name.lower(), 0) + 1
        assert version.number == self.last[name.lower()]
        self.versions.setdefault(name, {})[version.number] = seed
        self.changes += 1

    @rule(name=NAMES, number=NUMBERS)
    def remove(self, name: str, number: int) -> None:
        mine = self.versions.get(name, {})
        if number not in mine:
            with pytest.raises(NotFound):
                self.store.remove(Ref(name, number), actor="tester")
            return
        aliases = self.aliases.get(name, {})
        deployed = self.deployed.get(name)
        served = chosen_numbers(deployed.policy, tuple(mine), aliases) if deployed else ()
        if number in aliases.values() or number in served:
            with pytest.raises(Conflict):
                self.store.remove(Ref(name, number), actor="tester")
            return
        self.store.remove(Ref(name, number), actor="tester")
        del mine[number]
        self.changes += 1

    @rule(name=NAMES, alias=ALIASES, number=NUMBERS, expected=st.none() | NUMBERS)
    def point(self, name: str, alias: str, number: int, expected: int | None) -> None:
        current = self.aliases.get(name, {}).get(alias)
        if expected is not None and expected != current:
            with pytest.raises(Conflict):
                self.store.set_alias(name, alias, number, actor="tester", expected=expected)
            return
        if number not in self.versions.get(name, {}):
            with pytest.raises(NotFound):
                self.store.set_alias(name, alias, number, actor="tester", expected=expected)
            return
        self.store.set_alias(name, alias, number, actor="tester", expected=expected)
        self.changes += current != number
        self.aliases.setdefault(name, {})[alias] = number

    @rule(name=NAMES, alias=ALIASES)
    def point_nowhere(self, name: str, alias: str) -> None:
        deployed = self.deployed.get(name)
        if alias not in self.aliases.get(name, {}):
            with pytest.raises(NotFound):
                self.store.set_alias(name, alias, None, actor="tester")
        elif deployed and deployed.policy.alias == alias:
            with pytest.raises(Conflict):
                self.store.set_alias(name, alias, None, actor="tester")
        else:
            self.store.set_alias(name, alias, None, actor="tester")
            del self.aliases[name][alias]
            self.changes += 1

    @rule(name=NAMES, policy=POLICIES, revision=st.integers(0, 2))
    def deploy(self, name: str, policy: Policy, revision: int) -> None:
        current = self.deployed[name].revision if name in self.deployed else 0
        if self.other_case_is_used(name) or revision != current:
            with pytest.raises(Conflict):
                self.store.put_deployment(Deployment(name, policy, revision=revision), actor="tester")
            return
        self.deployed[name] = self.store.put_deployment(Deployment(name, policy, revision=revision), actor="tester")
        self.changes += 1

    @rule(name=NAMES)
    def undeploy(self, name: str) -> None:
        if name not in self.deployed:
            with pytest.raises(NotFound):
                self.store.remove_deployment(name, actor="tester")
            return
        self.store.remove_deployment(name, actor="tester")
        del self.deployed[name]
        self.changes += 1

    @rule(put=st.dictionaries(NAMES, POLICIES | st.none(), max_size=3))
    def redeploy_at_once(self, put: dict[str, Policy | None]) -> None:
        """All of it or nothing, in the order it is given; what is so already is no change."""
        used = {model for model, versions in self.versions.items() if versions}
        after = dict(self.deployed)
        for name, policy in put.items():
            if policy is None:
                after.pop(name, None)
            elif any(other != name and other.lower() == name.lower() for other in used | set(after)):
                with pytest.raises(Conflict):
                    self.store.change_deployments(wished(put), actor="tester")
                return
            else:
                revision = after[name].revision if name in after else 0
                kept = name in after and after[name] == Deployment(name, policy, revision=revision)
                after[name] = Deployment(name, policy, revision=revision + (not kept))
        changed = [name for name in put if self.deployed.get(name) != after.get(name)]
        self.store.change_deployments(wished(put), actor="tester")
        self.deployed = after
        self.changes += len(changed)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = open_store(self.home, clock=HandClock())

    @invariant()
    def says_the_same(self) -> None:
        assert self.store.names() == tuple(sorted(name for name, versions in self.versions.items() if versions))
        expected = [f"{name}:{number}" for name in sorted(self.versions) for number in sorted(self.versions[name], reverse=True)]
        assert [str(version) for version in self.store.versions(limit=1000)] == expected
        assert self.store.aliases() == {name: aliases for name, aliases in self.aliases.items() if aliases}
        assert self.store.deployments() == tuple(self.deployed[name] for name in sorted(self.deployed))
        assert len(self.store.events(limit=1000)) == self.changes


TestStoreAgainstDictionaries = StoreAgainstDictionaries.TestCase
TestStoreAgainstDictionaries.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
