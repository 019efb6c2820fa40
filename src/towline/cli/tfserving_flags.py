"""The flags of TF Serving's own command line, as `towline serve` takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from towline.app.options import TfServing
from towline.core.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
_TRUE, _FALSE = ("true", "1", "yes"), ("false", "0", "no")
# These mean something else, or nothing, outside TF Serving's own ports and names.
_ONLY_COMPAT = ("rest_api_port", "model_name", "model_base_path")


def tfserving_options(command: F) -> F:
    """Adds the options; `take` makes of them what a server is told."""
    options = (
        click.option("--model_config_file", metavar="FILE", help="TF Serving's list of models, each a folder of numbered versions."),
        click.option("--model_config_file_poll_wait_seconds", metavar="S", help="Read that file again every S seconds. Default: 0, never."),
        click.option("--batching_parameters_file", metavar="FILE", help="TF Serving's batching parameters; what is not needed is told."),
        click.option(
            "--allow_version_labels_for_unavailable_models",
            is_flag=False,
            flag_value="true",
            metavar="[true|false]",
            help="Let a label point to a version that is not served.",
        ),
        click.option(
            "--enable_batching", is_flag=False, flag_value="true", metavar="[true|false]", help="Taken and not needed: batching is on."
        ),
        click.option("--model_name", metavar="NAME", help="With --compat tfserving: the name of the one model."),
        click.option("--model_base_path", metavar="DIR", help="With --compat tfserving: the folder of its numbered versions."),
        click.option("--rest_api_port", metavar="N", help="With --compat tfserving: the HTTP port; --port is then the gRPC port."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def take(flags: dict[str, Any], compat: str) -> TfServing:
    """Takes TF Serving's flags out of `flags`, and sets the ports as TF Serving means them. Raises UsageError."""
    names = ("model_config_file", "model_config_file_poll_wait_seconds", "batching_parameters_file", "enable_batching")
    given = {name: flags.pop(name) for name in (*names, "allow_version_labels_for_unavailable_models", *_ONLY_COMPAT)}
    if compat == "tfserving":
        _set_ports(flags, given["rest_api_port"])
    else:
        _refuse_alone(given)
    config_file, base_path = given["model_config_file"], given["model_base_path"]
    if config_file and base_path:
        raise UsageError("--model_config_file and --model_base_path exclude each other.", hint="List the model in the file.")
    if not config_file and given["model_config_file_poll_wait_seconds"] is not None:
        raise UsageError("--model_config_file_poll_wait_seconds needs --model_config_file.", hint="Name the file that is to be read again.")
    if given["model_name"] and not base_path:
        raise UsageError("--model_name needs --model_base_path.", hint="Name the folder that holds its numbered versions.")
    # Said for nothing: read so that a misspelt value is told.
    _is_true("enable_batching", given["enable_batching"])
    return TfServing(
        config_file=str(Path(config_file).absolute()) if config_file else "",
        poll_s=_seconds(given["model_config_file_poll_wait_seconds"]),
        model_name=given["model_name"] or "default",
        base_path=base_path or "",
        batching_file=str(Path(given["batching_parameters_file"]).absolute()) if given["batching_parameters_file"] else "",
        loose_labels=_is_true("allow_version_labels_for_unavailable_models", given["allow_version_labels_for_unavailable_models"]),
    )


def _set_ports(flags: dict[str, Any], rest_api_port: str | None) -> None:
    """TF Serving's --port is gRPC's; ours for it wins when both are given."""
    grpc_port = flags["grpc_port"] if flags["grpc_port"] is not None else flags["port"]
    flags["grpc_port"], flags["port"] = grpc_port, rest_api_port


def _refuse_alone(given: dict[str, Any]) -> None:
    for name in _ONLY_COMPAT:
        if given[name] is not None:
            raise UsageError(f"--{name} is TF Serving's.", hint="Say --compat tfserving with it, which also takes its ports 8500 and 8501.")


def _seconds(text: str | None) -> float:
    if text is None:
        return 0.0
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise UsageError(f"--model_config_file_poll_wait_seconds must be a whole number of seconds, got {text[:32]!r}.")
    return float(text)


def _is_true(name: str, text: str | None) -> bool:
    if text is None or text.lower() in _FALSE:
        return False
    if text.lower() not in _TRUE:
        raise UsageError(f"--{name} must be true or false, got {text[:32]!r}.")
    return True
