"""Plans made of what the command line of `towline migrate` names; each old server's reader is loaded for its own sake only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from towline.convert.migrate.folders import read_moved
from towline.convert.migrate.plan import Plan


def tfserving_plan(
    models: str | None,
    base_path: str,
    model_name: str,
    batching: str | None,
    monitoring: str | None,
    flags: Sequence[str],
    volumes: Sequence[str],
) -> Plan:
    """Raises UsageError for what cannot be read."""
    from towline.convert.migrate.tfserving import TfServingSource, plan_tfserving

    return plan_tfserving(
        TfServingSource(_path(models), base_path, model_name, _path(batching), _path(monitoring), tuple(flags), read_moved(volumes))
    )


def triton_plan(repositories: Sequence[str], flags: Sequence[str], volumes: Sequence[str]) -> Plan:
    """Raises UsageError for what cannot be read."""
    from towline.convert.migrate.triton import TritonSource, plan_triton

    return plan_triton(TritonSource(tuple(map(Path, repositories)), tuple(flags), read_moved(volumes)))


def torchserve_plan(store: str | None, config: str | None, models: Sequence[str], flags: Sequence[str], volumes: Sequence[str]) -> Plan:
    """Raises UsageError for what cannot be read."""
    from towline.convert.migrate.torchserve import TorchServeSource, plan_torchserve

    return plan_torchserve(TorchServeSource(_path(store), _path(config), tuple(models), tuple(flags), read_moved(volumes)))


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
