"""Settings: frozen, read once, each value knows where it came from. defaults < towline.toml < TOWLINE_* < flags."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from towline.core.errors import UsageError

FILE_NAME = "towline.toml"
# A port that says: do not listen.
NO_PORT = -1


@dataclass(frozen=True)
class Settings:
    """Every setting with its default. Durations in seconds, sizes in bytes. A new field is documented in docs/reference/settings.md."""

    home: str = ""
    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int = 8001
    grpc_server: str = "aio"
    insecure: bool = False
    auth: str = "auto"
    allowed_hosts: str = ""
    cors_origins: str = ""
    isolation: str = "process"
    device: str = "cpu"
    drain_timeout_s: float = 30.0
    request_timeout_s: float = 60.0
    load_timeout_s: float = 120.0
    max_request_bytes: int = 64 << 20
    max_image_pixels: int = 64_000_000
    max_waiting_requests: int = 1024
    max_waiting_bytes: int = 256 << 20
    max_waiting_s: float = 8.0
    max_batch: int = 256
    latency_slo_ms: float = 0.0
    instances: int = 1
    padding: bool = True
    threads: int = 0
    runs: int = 0
    follow_tuning: bool = True
    max_connections: int = 8192
    max_connections_per_peer: int = 0
    max_header_bytes: int = 32 << 10
    max_headers: int = 100
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    min_body_bytes_per_s: int = 1024
    keep_versions_s: float = 5.0
    log_level: str = "info"
    model_control: str = "none"
    compat: str = "none"


# Lowest and highest value allowed, ends included.
_RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "grpc_port": (NO_PORT, 65535),
    "drain_timeout_s": (0, 3600),
    "request_timeout_s": (0.001, 86_400),
    "load_timeout_s": (1, 86_400),
    "max_request_bytes": (1024, 2 << 30),
    "max_image_pixels": (1, 1 << 31),
    "max_waiting_requests": (1, 1_000_000),
    "max_waiting_bytes": (1 << 20, 1 << 40),
    "max_waiting_s": (0.01, 86_400),
    "max_batch": (1, 65_536),
    "latency_slo_ms": (0, 3_600_000),
    "instances": (1, 64),
    "threads": (0, 256),
    "runs": (0, 256),
    "max_connections": (1, 1_000_000),
    "max_connections_per_peer": (0, 1_000_000),
    "max_header_bytes": (1024, 1 << 20),
    "max_headers": (8, 10_000),
    "header_timeout_s": (0.1, 3600),
    "idle_timeout_s": (1, 86_400),
    "write_timeout_s": (0.1, 3600),
    "min_body_bytes_per_s": (0, 1 << 30),
    "keep_versions_s": (0, 86_400),
}
_CHOICES = {
    "auth": ("auto", "keys", "off"),
    "compat": ("none", "tfserving", "triton", "torchserve"),
    "grpc_server": ("aio", "native"),
    "isolation": ("process", "none"),
    "log_level": ("debug", "info", "warning", "error"),
    "model_control": ("none", "explicit"),
}
# Where the clients of another server look for it; Triton's are ours.
_PORTS_OF = {"tfserving": {"port": 8501, "grpc_port": 8500}, "torchserve": {"port": 8080}}
_NAMES = tuple(field.name for field in fields(Settings))
# Variables that say something else than a setting does.
NO_SETTINGS = ("TOWLINE_CONFIG", "TOWLINE_DEBUG", "TOWLINE_ENVIRONMENTS", "TOWLINE_KEY")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


@dataclass(frozen=True)
class Loaded:
    """Settings and, for each name, where its value came from."""

    settings: Settings
    origin: Mapping[str, str]


def load_settings(flags: Mapping[str, Any], environ: Mapping[str, str], file: Path | None) -> Loaded:
    """Merge the four sources. Unknown keys are refused with the nearest known one. Flags that are None were not given."""
    values: dict[str, Any] = {}
    origin = dict.fromkeys(_NAMES, "default")
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if file is not None and file.exists():
        layers.append((str(file), _read_file(file)))
    layers.append(("environment", _read_environment(environ)))
    layers.append(("flag", {name: value for name, value in flags.items() if value is not None}))
    for where, layer in layers:
        for name, value in layer.items():
            origin[name] = f"TOWLINE_{name.upper()}" if where == "environment" else where
            values[name] = _checked(name, value, origin[name])
    for name, port in _PORTS_OF.get(values.get("compat", ""), {}).items():
        if origin[name] == "default":
            values[name], origin[name] = port, "compat"
    return Loaded(Settings(**values), origin)


def home_folder(settings: Settings, environ: Mapping[str, str]) -> Path:
    """Where the store is: --home or TOWLINE_HOME, else the XDG data directory."""
    if settings.home:
        return Path(settings.home).expanduser().absolute()
    base = environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base).absolute() / "towline"


def is_loopback(host: str) -> bool:
    """Whether listening on `host` keeps others out. A name is not taken for an address by how it begins: 127.example.org is anywhere."""
    if host == "localhost":
        return True
    import ipaddress

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_file(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > 1 << 20:
            raise UsageError(f"{file} is larger than 1 MiB: that is no settings file.")
        found = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", hint="Settings are TOML lines such as: port = 8000") from error
    for name in found:
        if name not in _NAMES:
            raise _unknown(name, str(file))
    return found


def _read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for variable, value in environ.items():
        if not variable.startswith("TOWLINE_") or variable in NO_SETTINGS:
            continue
        name = variable.removeprefix("TOWLINE_").lower()
        if name not in _NAMES:
            raise _unknown(name, f"the environment variable {variable}")
        found[name] = value
    return found


def _unknown(name: str, where: str) -> UsageError:
    near = difflib.get_close_matches(name, _NAMES, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else "See 'towline config show' for all settings."
    return UsageError(f"There is no setting '{name}' ({where}).", code="UNKNOWN_SETTING", field=name, hint=hint)


def _checked(name: str, value: Any, where: str) -> Any:
    """`value` as the setting's own type, within its range."""
    kind = type(getattr(Settings, name))
    try:
        converted = _convert(kind, value)
    except ValueError:
        raise UsageError(f"'{name}' must be {_words(kind)}, got {str(value)[:64]!r} ({where}).", field=name) from None
    if name in _RANGES:
        low, high = _RANGES[name]
        if not low <= converted <= high:
            raise UsageError(f"'{name}' must be from {low:g} to {high:g}, got {converted:g} ({where}).", field=name)
    if name in _CHOICES and converted not in _CHOICES[name]:
        raise UsageError(f"'{name}' must be one of {', '.join(_CHOICES[name])}, got {str(converted)[:64]!r} ({where}).", field=name)
    if name == "cors_origins":
        _check_origins(converted, where)
    return converted


def _check_origins(value: str, where: str) -> None:
    for origin in filter(None, map(str.strip, value.split(","))):
        scheme, separator, host = origin.partition("://")
        if origin != "*" and not (separator and scheme.isalnum() and host and not set(host) & set("/?#@ ")):
            raise UsageError(
                f"{origin[:64]!r} is no origin ({where}).",
                field="cors_origins",
                hint="Write https://example.org, without a path; * is any.",
            )


def _convert(kind: type, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() in _TRUE:
            return True
        if str(value).lower() in _FALSE:
            return False
        raise ValueError
    if isinstance(value, bool) or (isinstance(value, str) and value != value.strip()):
        raise ValueError
    if kind is int:
        if isinstance(value, float):
            raise ValueError
        return int(value)
    if kind is float:
        number = float(value)
        if number != number:
            raise ValueError
        return number
    if not isinstance(value, str):
        raise ValueError
    return value


def _words(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number of seconds", str: "text"}[kind]
