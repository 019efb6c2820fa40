"""Plan the way from Triton: its model repository, each model's config.pbtxt, and its flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from towline.convert.migrate.flags import is_true, port, read_flags, rows_of, whole
from towline.convert.migrate.folders import Moved, place_of, unreadable
from towline.convert.migrate.plan import Plan, PlannedModel, bad, refused_model
from towline.convert.migrate.triton_flags import FLAGS
from towline.convert.migrate.triton_model import planned_model
from towline.core.errors import InvalidRequest, UsageError

_MAX_MODELS = 10_000


@dataclass(frozen=True)
class TritonSource:
    """What Triton was started with: its model repositories, and its command line, which may name them."""

    repositories: tuple[Path, ...] = ()
    flags: tuple[str, ...] = ()
    volumes: tuple[Moved, ...] = ()


def plan_triton(source: TritonSource) -> Plan:
    """Raises UsageError for flags and folders that cannot be read; a model that cannot be served is in the plan, with its problem."""
    several = _repeated(source.flags, ("load-model",))
    flags = read_flags(source.flags, FLAGS, "Triton", "tritonserver")
    named = [flags[name] for name in ("model-repository", "model-store") if name in flags]
    repositories = source.repositories or tuple(place_of(name, source.volumes) for name in named)
    if not repositories:
        raise bad("Name Triton's model repository.", "towline migrate triton --repository DIR")
    folders = [folder for repository in repositories for folder in _folders(repository)]
    if not folders:
        raise bad(
            f"{repositories[0]} holds no models.", "A model repository has a folder for each model: NAME/config.pbtxt, NAME/1/model.onnx."
        )
    names = [folder.name.lower() for folder in folders]
    models = [
        _twice(folder) if names.count(folder.name.lower()) > 1 else _planned(folder, flags.get("model-config-name", ""))
        for folder in folders
    ]
    explicit = flags.get("model-control-mode") == "explicit"
    loaded = several["load-model"]
    if explicit and "*" not in loaded:
        models = [replace(model, is_served=model.name in loaded) for model in models]
    return Plan("Triton", "triton", tuple(models), _settings(flags), rows_of(flags, FLAGS))


def _planned(folder: Path, config_name: str) -> PlannedModel:
    try:
        return planned_model(folder, config_name)
    except (UsageError, InvalidRequest) as error:
        return refused_model(folder.name, error.message, error.hint or "Put that right in its config.pbtxt.")


def _twice(folder: Path) -> PlannedModel:
    return refused_model(
        folder.name, f"There are two models of this name, one of them in {folder}.", "Give each its own; case makes no difference."
    )


def _folders(repository: Path) -> list[Path]:
    try:
        found = sorted(path for path in repository.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise unreadable(repository, error) from None
    if len(found) > _MAX_MODELS:
        raise bad(f"{repository} holds more than {_MAX_MODELS} folders.", "That is no model repository.")
    return found


def _repeated(words: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """All values of flags that may be given more than once, as --name=value or --name value."""
    found: dict[str, list[str]] = {name: [] for name in names}
    for word, following in zip(words, [*words, ""][1:], strict=True):
        name, equals, value = word.lstrip("-").partition("=")
        if name in found and word.startswith("--"):
            found[name].append(value if equals else following)
    return found


def _settings(flags: Mapping[str, str]) -> dict[str, str | int | float | bool]:
    found: dict[str, str | int | float | bool] = {"compat": "triton", "port": port(flags, "http-port", 8000)}
    serves_grpc = is_true(flags.get("allow-grpc", "true"))
    found["grpc_port"] = port(flags, "grpc-port", 8001) if serves_grpc else -1
    for name, setting in (("exit-timeout-secs", "drain_timeout_s"), ("http-max-input-size", "max_request_bytes")):
        value = whole(flags, name)
        if value is not None:
            found[setting] = value
    if whole(flags, "log-verbose"):
        found["log_level"] = "debug"
    if flags.get("model-control-mode") == "explicit":
        found["model_control"] = "explicit"
    return found
