"""Plan the way from TorchServe: its model store of .mar archives, its config.properties, and its flags."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from towline.convert.migrate.flags import Flag, is_true, read_flags, rows_of, whole
from towline.convert.migrate.folders import Moved, place_of, unreadable
from towline.convert.migrate.mar import LABELS, Mar, read_mar
from towline.convert.migrate.plan import Plan, PlannedModel, PlannedVersion, Row, bad, refused_model
from towline.convert.migrate.properties import read_properties
from towline.convert.migrate.torchserve_settings import FLAGS, PROPERTIES, SECRET
from towline.core.deployment import Limits, Policy
from towline.core.errors import ImportRefused, InvalidRequest, UsageError
from towline.core.plain_file import read_plain_file
from towline.core.refs import check_model_name, clip

_MAX_FILE_BYTES = 1 << 20
_MAX_MODELS = 10_000
_PORT = 8080
_SETTINGS = {
    "default_response_timeout": "request_timeout_s",
    "default_startup_timeout": "load_timeout_s",
    "unregister_model_timeout": "drain_timeout_s",
    "job_queue_size": "max_waiting_requests",
    "max_request_size": "max_request_bytes",
}
_NUMBER = re.compile(r"([1-9][0-9]{0,8})(?:\.0)*")


@dataclass(frozen=True)
class TorchServeSource:
    """What TorchServe was started with. `models` are words as its --models took them: `all`, `a.mar`, `name=a.mar`."""

    store: Path | None = None
    config: Path | None = None
    models: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    volumes: tuple[Moved, ...] = ()


def plan_torchserve(source: TorchServeSource) -> Plan:
    """Raises UsageError for files and flags that cannot be read; a model that cannot be served is in the plan, with its problem."""
    models, words = _models_of(source.flags)
    flags = read_flags(words, FLAGS, "TorchServe", "torchserve")
    config = source.config or (place_of(flags["ts-config"], source.volumes) if "ts-config" in flags else None)
    properties = _properties(config) if config else {}
    named = flags.get("model-store") or properties.get("model_store", "")
    store = source.store or (place_of(named, source.volumes) if named else None)
    if store is None:
        raise bad("Name TorchServe's model store.", "towline migrate torchserve --model-store DIR --config config.properties")
    chosen = source.models or models or _listed(properties.get("load_models", "all"))
    found = _archives(store, chosen)
    if not found:
        raise bad(f"{store} holds no .mar archives.", "Give the folder that --model-store named.")
    configured = _configured(properties)
    planned = [_planned(name, mars, configured) for name, mars in _by_name(found).items()]
    rows = (*rows_of(flags, FLAGS), *_property_rows(properties))
    if models:
        rows = (*rows, Row("--models", " ".join(models), FLAGS["models"].ours, FLAGS["models"].why))
    return Plan("TorchServe", "torchserve", tuple(planned), _settings(properties), rows)


# What was configured


def _properties(config: Path) -> dict[str, str]:
    raw = read_plain_file(config, _MAX_FILE_BYTES, lambda why: bad(f"{config}: {why}.", "Check the path."))
    found = read_properties(raw.decode("utf-8", "replace"), config.name)
    for name, (_, line) in found.items():
        if name not in PROPERTIES:
            near = difflib.get_close_matches(name, PROPERTIES, n=1)
            raise bad(
                f"{config.name}, line {line}: TorchServe has no property '{clip(name)}'.",
                f"Did you mean '{near[0]}'?" if near else "Remove it.",
            )
    return {name: value for name, (value, _) in found.items()}


def _property_rows(properties: Mapping[str, str]) -> tuple[Row, ...]:
    def row(name: str, value: str, flag: Flag) -> Row:
        return Row(name, "(not shown)" if name in SECRET else clip(value, 80), flag.ours, flag.why)

    return tuple(row(name, value, PROPERTIES[name]) for name, value in properties.items())


def _configured(properties: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """By model, by version: what `models={…}` or a snapshot says of it. Raises UsageError for what is no such JSON."""
    text = properties.get("models") or properties.get("model_snapshot")
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(f"'models' is no JSON: {clip(str(error), 120)}.", "Each line but the last ends in a backslash.") from None
    found = found.get("models", found) if isinstance(found, dict) else found
    if not isinstance(found, dict) or not all(isinstance(versions, dict) for versions in found.values()):
        raise bad("'models' is no object of models, each an object of versions.")
    return found


def _settings(properties: Mapping[str, str]) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {"compat": "torchserve", "port": _port(properties.get("inference_address", ""))}
    for name, setting in _SETTINGS.items():
        value = whole(properties, name)
        if value is not None:
            found[setting] = value
    if properties.get("cors_allowed_origin"):
        found["cors_origins"] = properties["cors_allowed_origin"]
    if is_true(properties.get("debug", "")):
        found["log_level"] = "debug"
    return found


def _port(address: str) -> int:
    if not address:
        return _PORT
    try:
        parts = urlsplit(address)
        return parts.port or (443 if parts.scheme == "https" else _PORT)
    except ValueError:
        raise bad(f"inference_address {clip(address)!r} is no address.", "Write http://127.0.0.1:8080") from None


# Which archives


def _models_of(words: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What follows --models, which takes several words, and the other flags."""
    models: list[str] = []
    rest: list[str] = []
    is_models = False
    for word in words:
        if word.startswith("-"):
            is_models = word == "--models"
            if is_models:
                continue
        (models if is_models else rest).append(word)
    return tuple(models), tuple(rest)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _archives(store: Path, chosen: Sequence[str]) -> list[tuple[str, Path]]:
    """(name, archive) of each that is to be served; no name: the archive's own."""
    if not chosen or set(chosen) <= {"all", "standalone", "ALL", "NONE"}:
        try:
            found = sorted(path for path in store.iterdir() if _is_archive(path))
        except OSError as error:
            raise unreadable(store, error) from None
        if len(found) > _MAX_MODELS:
            raise bad(f"{store} holds more than {_MAX_MODELS} archives.")
        return [("", path) for path in found]
    named = []
    for word in chosen:
        name, equals, file = word.partition("=")
        file = file if equals else name
        if "://" in file or "/" in file or file in (".", ".."):
            raise bad(f"{clip(file)!r} is no file of the model store.", "Fetch the archive into the model store, and name it alone.")
        named.append((name if equals else "", store / file))
    return named


def _is_archive(path: Path) -> bool:
    return path.name.endswith((".mar", ".tar.gz", ".tgz")) if path.is_file() else (path / "MAR-INF").is_dir()


def _by_name(found: Sequence[tuple[str, Path]]) -> dict[str, list[Mar | PlannedModel]]:
    """The archives of each model, or what is wrong with one."""
    models: dict[str, list[Mar | PlannedModel]] = {}
    for given, path in found:
        name = given or path.name.split(".")[0]
        try:
            mar = read_mar(path)
            name = given or mar.name or name
            models.setdefault(check_model_name(name), []).append(mar)
        except (UsageError, ImportRefused, InvalidRequest) as error:
            models.setdefault(name, []).append(refused_model(name, error.message, error.hint or "Make the archive anew."))
    return models


def _planned(name: str, mars: Sequence[Mar | PlannedModel], configured: Mapping[str, Mapping[str, Any]]) -> PlannedModel:
    for mar in mars:
        if isinstance(mar, PlannedModel):
            return mar
    known = [mar for mar in mars if isinstance(mar, Mar)]
    for mar in known:
        refusal = mar.refusal()
        if refusal is not None:
            return refused_model(name, *refusal, notes=mar.notes)
    numbers = numbers_for([mar.old_version for mar in known])
    versions = tuple(_version(mar, number) for mar, number in zip(known, numbers, strict=True))
    notes = {note: None for mar in known for note in mar.notes}
    renamed = [
        f"Version {mar.old_version} is {number} here." for mar, number in zip(known, numbers, strict=True) if mar.old_version != str(number)
    ]
    return PlannedModel(name, versions, Policy("all"), {}, _limits(configured.get(name, {})), (*notes, *renamed))


def _version(mar: Mar, number: int) -> PlannedVersion:
    given = {"preset": mar.preset} if mar.preset else {}
    if mar.has_labels:
        given["labels"] = LABELS
    if mar.model_file:
        given["arch"] = mar.model_file
    if mar.preset and not mar.serialized_file.endswith(".onnx"):
        given["input"] = "float32[N,3,224,224]"
    return PlannedVersion(number, mar.path, mar.serialized_file, given, mar.old_version)


def numbers_for(old: Sequence[str]) -> tuple[int, ...]:
    """A number for each of TorchServe's versions, which are any text: `2.0` is 2; others get the next free ones, in their order."""
    found: dict[int, int] = {}
    for place, text in enumerate(old):
        match = _NUMBER.fullmatch(text)
        if match and int(match[1]) not in found.values():
            found[place] = int(match[1])
    for place in sorted(set(range(len(old))) - found.keys(), key=lambda place: _in_order(old[place])):
        found[place] = max(found.values(), default=0) + 1
    return tuple(found[place] for place in range(len(old)))


def _in_order(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"[._-]", text)]


def _limits(versions: Mapping[str, Any]) -> Limits:
    timeouts = [version["responseTimeout"] for version in versions.values() if isinstance(version, dict) and "responseTimeout" in version]
    return Limits(timeout_s=float(max(timeouts))) if timeouts and all(isinstance(value, int | float) for value in timeouts) else Limits()
