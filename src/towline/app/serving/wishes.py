"""What a client's wish makes of the deployments: decided before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from towline.core.deployment import Deployment, Limits, Policy, chosen_numbers
from towline.core.errors import Conflict, InvalidRequest, Kind, NotFound, TowlineError
from towline.core.refs import Ref, check_alias, check_model_name, clip
from towline.core.store import Store

if TYPE_CHECKING:
    from towline.convert.triton_config import TritonConfig

# None: not to be served any more.
Wished = dict[str, Deployment | None]
# A name, a base path and a policy -> the numbers in that folder, of which those that the policy chooses are in the store now.
# Raises BeingConverted while they are not.
BringIn = Callable[[str, str, Policy], Sequence[int]]


class BeingConverted(Exception):
    """What a wish needs is on its way into the store, and that takes a while: to be wished again."""


def wish_to_load(store: Store, name: str, ask: Mapping[str, Any], config: TritonConfig | None, sent: tuple[int, ...]) -> Deployment:
    """The deployment that a load asks for. `sent` are the versions that came with it. Raises NotFound, InvalidRequest."""
    current = next((one for one in store.deployments() if one.name == name), None)
    policy = _policy(ask, config, sent) or (current.policy if current else Policy("latest"))
    existing, aliases = store.numbers(name), store.aliases(name).get(name, {})
    # Resolved by the store, whose errors tell what there is instead.
    store.version(Ref(name, alias=policy.alias) if policy.kind == "alias" else Ref(name, number=ask.get("number")))
    numbers = chosen_numbers(policy, existing, aliases)
    if not numbers or (policy.kind == "specific" and len(numbers) < len(set(policy.numbers))):
        there = ", ".join(map(str, existing[-10:]))
        raise NotFound(f"Not all versions that are asked for ({policy}) are there: '{name}' has {there}.", code="VERSION_NOT_FOUND")
    if config is not None:
        for number in numbers:
            config.check(store.version(Ref(name, number=number)).manifest)
    limits = config.limits if config is not None else current.limits if current else Limits()
    labels = {label: number for label, number in (current.labels if current else {}).items() if number in existing}
    return Deployment(name, policy, labels, limits)


def _policy(ask: Mapping[str, Any], config: TritonConfig | None, sent: tuple[int, ...]) -> Policy | None:
    if sent:
        return Policy("specific", numbers=sent)
    if ask.get("number"):
        return Policy("specific", numbers=(int(ask["number"]),))
    if ask.get("alias"):
        return Policy("alias", alias=check_alias(str(ask["alias"])))
    return config.policy if config is not None else None


def wish_to_unload(store: Store, name: str) -> Wished:
    """Nothing to change for a model that is not served. Raises NotFound for one that nobody knows."""
    if any(one.name == name for one in store.deployments()):
        return {name: None}
    # Its error tells what there is instead.
    store.version(Ref(name))
    return {}


def wish_to_replace(store: Store, models: Sequence[Mapping[str, Any]], bring_in: BringIn, *, loose_labels: bool) -> Wished:
    """Serve these and no others. `bring_in` sees to models that come from a folder. Raises TowlineError."""
    wished: Wished = {one.name: None for one in store.deployments()}
    seen: set[str] = set()
    for model in models:
        name = check_model_name(str(model["name"]))
        if name in seen:
            raise InvalidRequest(f"The model '{name}' is configured twice.", code="DUPLICATE_MODEL", field="config.name")
        seen.add(name)
        policy = Policy(str(model["policy"]), count=int(model["count"]), numbers=tuple(model["numbers"]))  # type: ignore[arg-type]
        if model["base_path"]:
            existing = bring_in(name, str(model["base_path"]), policy)
        else:
            store.version(Ref(name))
            existing = store.numbers(name)
        numbers = chosen_numbers(policy, tuple(existing), {})
        missing = sorted(set(policy.numbers) - set(existing))
        if missing or not numbers:
            which = f"version {missing[0]}" if missing else "version in its folder"
            raise NotFound(f"'{name}' has no {which}.", code="VERSION_NOT_FOUND", field="config.model_version_policy")
        check_labels(name, model["labels"], numbers if not loose_labels else existing)
        if model["base_path"]:
            # The folder decides what the policy means, now and at each later look.
            policy = Policy("specific", numbers=numbers)
        current = next((one for one in store.deployments() if one.name == name), None)
        wished[name] = Deployment(name, policy, dict(model["labels"]), current.limits if current else Limits())
    return wished


def check_path(name: str, base_path: str, allowed: Collection[str]) -> None:
    """Raises TowlineError unless the server's owner named this path."""
    if base_path.rstrip("/") not in {path.rstrip("/") for path in allowed}:
        raise TowlineError(
            f"The base_path of '{name}' is not one this server was started with; it reads no place that a client names.",
            code="PLACE_NOT_ALLOWED",
            kind=Kind.DENIED,
            field="config.base_path",
            hint="Leave base_path empty for a model of the store, or start the server with --model_config_file.",
        )


def check_labels(name: str, labels: Mapping[str, int], served: Sequence[int]) -> None:
    """TF Serving's rule: a label points to a version that is served. Raises InvalidRequest."""
    for label, number in labels.items():
        if number not in served:
            raise InvalidRequest(
                f"The label '{clip(label)}' of '{name}' points to version {number}, which is not served.",
                code="LABEL_UNAVAILABLE",
                field="config.version_labels",
                hint="Serve that version too, or start with --allow_version_labels_for_unavailable_models.",
            )


def check_watched(wished: Wished, store: Store, watched: frozenset[str]) -> None:
    """What a watched folder decides, no client does: the next look at the folder would undo it. Raises Conflict."""
    current = {one.name: one for one in store.deployments()}
    for name in wished.keys() & watched:
        wish, now = wished[name], current.get(name)
        if wish is None or now is None or (wish.policy, wish.labels) != (now.policy, now.labels):
            raise Conflict(
                f"'{name}' is served from a folder that is watched, which decides what is served.",
                code="MODEL_WATCHED",
                hint="Change the folder, or serve without --watch.",
            )
