"""Plan the way from TF Serving: its model configuration, batching and monitoring files, its flags, its folders of versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from towline.convert.migrate.flags import is_true, port, read_flags, rows_of, whole
from towline.convert.migrate.folders import Moved, numbered, place_of
from towline.convert.migrate.plan import Plan, PlannedModel, PlannedVersion, Row, bad, refused_model
from towline.convert.migrate.tfserving_flags import FLAGS
from towline.convert.tfserving_config import (
    MAX_FILE_BYTES,
    ConfiguredModel,
    configured_model,
    read_batching,
    read_each_model,
    read_metrics_path,
)
from towline.convert.watch import model_in
from towline.core.deployment import Limits, chosen_numbers
from towline.core.errors import UsageError
from towline.core.plain_file import read_plain_file
from towline.core.refs import MODEL_NAME, clip

_GRPC_PORT, _REST_PORT = 8500, 8501
# Of a model's own fields, what has no meaning here.
_FIELD_NOTES = {
    "logging_config": "logging_config: requests are not logged",
    "logging_configs": "logging_configs: requests are not logged",
    "model_type": "model_type: the files say what they are",
}


@dataclass(frozen=True)
class TfServingSource:
    """What TF Serving was started with: the files, or one model's folder, and its command line, which may name all of these."""

    models: Path | None = None
    base_path: str = ""
    model_name: str = ""
    batching: Path | None = None
    monitoring: Path | None = None
    flags: tuple[str, ...] = ()
    volumes: tuple[Moved, ...] = ()


@dataclass(frozen=True)
class _Configured:
    model: ConfiguredModel
    notes: tuple[str, ...] = ()


def plan_tfserving(source: TfServingSource) -> Plan:
    """Raises UsageError for files and flags that cannot be read; a model that cannot be served is in the plan, with its problem."""
    flags = read_flags(source.flags, FLAGS, "TF Serving", "tensorflow_model_server")
    source = _with_flags(source, flags)
    limits, batching_rows = _batching(source.batching)
    models = tuple(_planned(model, source.volumes, limits) for model in _listed(source))
    if not models:
        raise bad("The configuration lists no models.", "It is the file that --model_config_file named.")
    rows = (*rows_of(flags, FLAGS), *batching_rows, *_monitoring_rows(source.monitoring))
    return Plan("TF Serving", "tfserving", models, _settings(flags), rows)


def _with_flags(source: TfServingSource, flags: Mapping[str, str]) -> TfServingSource:
    def file(given: Path | None, name: str) -> Path | None:
        return given or (place_of(flags[name], source.volumes) if name in flags else None)

    found = replace(
        source,
        models=file(source.models, "model_config_file"),
        batching=file(source.batching, "batching_parameters_file"),
        monitoring=file(source.monitoring, "monitoring_config_file"),
        base_path=source.base_path or flags.get("model_base_path", ""),
        model_name=source.model_name or flags.get("model_name", "default"),
    )
    if bool(found.models) == bool(found.base_path):
        raise bad("Name the models that TF Serving served.", "towline migrate tfserving --models models.config, or --model_base_path DIR")
    return found


def _listed(source: TfServingSource) -> list[PlannedModel | _Configured]:
    if source.models is None:
        return [_Configured(configured_model(source.model_name, source.base_path))]
    found: list[PlannedModel | _Configured] = []
    for listed in read_each_model(_text(source.models)):
        if listed.model is not None:
            found.append(_Configured(listed.model, tuple(note for field, note in _FIELD_NOTES.items() if field in listed.fields)))
        elif listed.problem is not None:
            found.append(refused_model(clip(listed.name) or "(no name)", listed.problem.message, _hint(listed.problem, listed.name)))
    return found


def _hint(problem: UsageError, name: str) -> str:
    if "://" in problem.message or "address" in problem.message:
        return "Fetch its versions to a folder first, and write that folder into base_path."
    return problem.hint if MODEL_NAME.fullmatch(name) else f"{problem.hint} Clients ask by the name, so it is not changed for you."


def _planned(listed: PlannedModel | _Configured, volumes: Sequence[Moved], limits: Limits) -> PlannedModel:
    if isinstance(listed, PlannedModel):
        return listed
    model = listed.model
    folder = place_of(model.base_path, volumes)
    try:
        present = numbered(folder)
    except UsageError as error:
        return refused_model(model.name, error.message, error.hint)
    labelled = [number for number in model.labels.values() if number in present]
    wanted = sorted({*chosen_numbers(model.policy, tuple(present), {}), *labelled} - {0})
    missing = sorted({*model.policy.numbers, *model.labels.values()} - present.keys())
    if not wanted:
        what = f"no version {missing[0]}" if missing else "only version 0, and ours begin at 1" if present else "no numbered folder"
        return refused_model(model.name, f"{folder} has {what}.", "Versions are folders named 1, 2, ….")
    others = sorted(present.keys() - set(wanted))
    notes = (
        *listed.notes,
        *(f"Version {number} is configured, and {folder} does not have it." for number in missing),
        *([f"Not served before, hence not imported: {', '.join(map(str, others[-20:]))}."] if others else []),
    )
    versions = tuple(PlannedVersion(number, model_in(present[number]) or present[number], old=present[number].name) for number in wanted)
    labels = {label: number for label, number in model.labels.items() if number in wanted}
    return PlannedModel(model.name, versions, model.policy, labels, limits, notes)


def _batching(file: Path | None) -> tuple[Limits, tuple[Row, ...]]:
    if file is None:
        return Limits(), ()
    batching = read_batching(_text(file))
    limits = batching.limits
    kept = (
        [Row("max_batch_size, max_execution_batch_size", str(limits.max_batch), "max_batch of each deployment")] if limits.max_batch else []
    )
    if limits.max_waiting_requests:
        why = "batches that wait there, requests that wait here"
        kept.append(Row("max_enqueued_batches", str(limits.max_waiting_requests), "max_waiting_requests of each deployment", why))
    notes = (note.partition(": ") for note in batching.notes)
    return limits, (*kept, *(Row(name, "", "", why) for name, _, why in notes))


def _monitoring_rows(file: Path | None) -> tuple[Row, ...]:
    if file is None:
        return ()
    path = read_metrics_path(_text(file))
    return (Row("prometheus_config", path or "not enabled", "/metrics", "on the HTTP port, under names of our own; always there"),)


def _settings(flags: Mapping[str, str]) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {"compat": "tfserving"}
    found["grpc_port"] = port(flags, "port", _GRPC_PORT)
    found["port"] = port(flags, "rest_api_port", _REST_PORT)
    timeout_ms = whole(flags, "rest_api_timeout_in_ms")
    if timeout_ms:
        found["request_timeout_s"] = timeout_ms / 1000
    if is_true(flags.get("rest_api_enable_cors_support", "")):
        found["cors_origins"] = "*"
    return found


def _text(file: Path) -> str:
    raw = read_plain_file(file, MAX_FILE_BYTES, lambda why: bad(f"{file}: {why}.", "Check the path."))
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise bad(f"{file} is not UTF-8 text.", "Give the files that TF Serving was started with.") from None
