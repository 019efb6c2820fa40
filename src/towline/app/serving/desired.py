"""What the store deploys, as the table the front is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from towline.core.deployment import Deployment, Policy, chosen_numbers
from towline.core.errors import NotFound, UsageError
from towline.core.refs import Ref
from towline.core.runtime import TUNED, Runtime, this_machine
from towline.core.store import Store
from towline.core.version import Version


def deployment_for(ref: Ref, version: Version) -> Deployment:
    """What `towline serve REF` wishes for: a bare name follows the latest version, an alias what it points at, else just this one."""
    if ref.alias:
        return Deployment(version.name, Policy("alias", alias=ref.alias))
    if ref.number is not None or ref.digest:
        return Deployment(version.name, Policy("specific", numbers=(version.number,)))
    return Deployment(version.name, Policy("latest"))


def version_meant(store: Store, ref: Ref) -> Version:
    """Raises NotFound; for what is a folder here, with the word that takes it for one."""
    try:
        return store.version(ref)
    except NotFound as missing:
        if Path(ref.name).is_dir():
            hint = f"'{ref.name}' is a folder here. To import what is in it: ./{ref.name}"
            raise NotFound(missing.message, code=missing.code, field=missing.field, hint=hint) from None
        raise


def together(asked: Iterable[Deployment]) -> dict[str, Deployment]:
    """By name, what one command line asks for: of a name several versions by their numbers, else one thing. Raises UsageError. Pure."""
    by_name: dict[str, Deployment] = {}
    for one in asked:
        before = by_name.setdefault(one.name, one).policy
        if before.kind == one.policy.kind == "specific":
            numbers = tuple(sorted({*before.numbers, *one.policy.numbers}))
            by_name[one.name] = dataclasses.replace(one, policy=Policy("specific", numbers=numbers))
        elif before != one.policy:
            raise UsageError(
                f"'{one.name}' is asked for in two ways, as {before} and as {one.policy}.",
                code="ASKED_TWICE",
                field="ref",
                hint=f"Follow one of them, or name several versions by their numbers: {one.name}:1 {one.name}:2.",
            )
    return by_name


def check_names(files: Sequence[str], names: Sequence[str], wished: Collection[str]) -> None:
    """Raises UsageError for a file that would get a name which another one, or a ref, has already. Pure."""
    for place, (file, name) in enumerate(zip(files, names, strict=True)):
        if name in wished or name in names[:place]:
            raise UsageError(
                f"'{file}' would be served as '{name}', and so would something else that is named here.",
                code="ASKED_TWICE",
                field="ref",
                hint=f"Give it a name of its own: towline import {file} --name NAME, then towline serve NAME.",
            )


def desired_models(
    store: Store, names: Collection[str] | None, trial: Mapping[str, Deployment | None] | None = None
) -> list[dict[str, Any]]:
    """One entry per deployment (of `names`, or all), with the versions that exist now. Plain JSON.

    `trial` stands in for deployments that are not written down yet; None in it is one that is tried to do without.
    """
    aliases = store.aliases()
    models = []
    deployments = {one.name: one for one in store.deployments() if names is None or one.name in names}
    for _, deployment in sorted({**deployments, **(trial or {})}.items()):
        if deployment is None:
            continue
        existing = store.numbers(deployment.name)
        labels = {label: number for label, number in deployment.labels.items() if number in existing}
        numbers = chosen_numbers(deployment.policy, existing, aliases.get(deployment.name, {}))
        # A label may only point to a version that is served.
        wanted = sorted({*numbers, *labels.values()})
        models.append(
            {
                "name": deployment.name,
                "versions": [_entry(store, store.version(Ref(deployment.name, number=number))) for number in wanted],
                "default": max(numbers, default=None),
                "labels": labels,
                "limits": dataclasses.asdict(deployment.limits),
            }
        )
    return models


def _entry(store: Store, version: Version) -> dict[str, Any]:
    runtime = dataclasses.asdict(tuned(store, version))
    return {"number": version.number, "digest": version.digest, "path": str(version.path), "runtime": runtime}


def tuned(store: Store, version: Version) -> Runtime:
    """What `towline tune` last found best for the version on a machine such as this one; nothing elsewhere."""
    here = this_machine()
    found = [one for one in store.events(name=version.name, kind=TUNED) if one.digest == version.digest and one.data.get("machine") == here]
    return Runtime.from_data(found[-1].data.get("use")) if found else Runtime()
