"""TF Serving's flags mean on our command line what they mean on TF Serving's, and nothing by accident."""

from __future__ import annotations

from typing import Any

import pytest

from towline.app.options import TfServing
from towline.cli.tfserving_flags import take
from towline.core.config import load_settings
from towline.core.errors import UsageError

NONE: dict[str, Any] = dict.fromkeys(
    (
        "port",
        "grpc_port",
        "model_config_file",
        "model_config_file_poll_wait_seconds",
        "batching_parameters_file",
        "enable_batching",
        "allow_version_labels_for_unavailable_models",
        "model_name",
        "model_base_path",
        "rest_api_port",
    )
)


def ports(compat: str, **given: str) -> tuple[Any, Any]:
    """HTTP and gRPC ports that a command line comes to."""
    flags = NONE | given
    take(flags, compat)
    settings = load_settings({**flags, "compat": compat}, {}, None).settings
    return settings.port, settings.grpc_port


@pytest.mark.parametrize(
    ("compat", "given", "expected"),
    [
        ("none", {}, (8000, 8001)),
        ("triton", {}, (8000, 8001)),
        ("tfserving", {}, (8501, 8500)),
        ("tfserving", {"port": "9000"}, (8501, 9000)),
        ("tfserving", {"rest_api_port": "9001"}, (9001, 8500)),
        ("tfserving", {"port": "9000", "rest_api_port": "9001"}, (9001, 9000)),
        ("tfserving", {"port": "9000", "grpc_port": "9002", "rest_api_port": "9001"}, (9001, 9002)),
        ("none", {"port": "9000", "grpc_port": "9002"}, (9000, 9002)),
    ],
)
def test_ports_are_the_ones_that_the_clients_of_that_server_look_for(compat: str, given: dict[str, str], expected: tuple[int, int]) -> None:
    assert ports(compat, **given) == expected


def test_a_port_that_was_set_elsewhere_is_kept() -> None:
    loaded = load_settings({"compat": "tfserving"}, {"TOWLINE_PORT": "9000"}, None)
    assert (loaded.settings.port, loaded.settings.grpc_port) == (9000, 8500)
    assert (loaded.origin["port"], loaded.origin["grpc_port"]) == ("TOWLINE_PORT", "compat")


def test_no_flag_of_tf_servings_is_left_for_the_settings() -> None:
    flags = {**NONE, "model_base_path": "/models/m", "enable_batching": "true"}
    assert take(flags, "tfserving") == TfServing(base_path="/models/m")
    assert set(flags) == {"port", "grpc_port"}


def test_one_model_is_called_default_unless_it_has_a_name() -> None:
    assert take({**NONE, "model_base_path": "/m", "model_name": "digits"}, "tfserving").model_name == "digits"
    assert take({**NONE, "model_base_path": "/m"}, "tfserving").model_name == "default"


def test_the_configuration_file_needs_no_compat(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    taken = take({**NONE, "model_config_file": "models.config", "model_config_file_poll_wait_seconds": "5"}, "none")
    assert taken == TfServing(config_file=str(tmp_path / "models.config"), poll_s=5.0)


@pytest.mark.parametrize(
    ("given", "compat", "said"),
    [
        ({"rest_api_port": "8501"}, "none", "--rest_api_port is TF Serving's"),
        ({"model_base_path": "/m"}, "triton", "--model_base_path is TF Serving's"),
        ({"model_name": "m"}, "tfserving", "needs --model_base_path"),
        ({"model_config_file": "f", "model_base_path": "/m"}, "tfserving", "exclude each other"),
        ({"model_config_file_poll_wait_seconds": "1"}, "tfserving", "needs --model_config_file"),
        ({"model_config_file": "f", "model_config_file_poll_wait_seconds": "-1"}, "tfserving", "whole number"),
        ({"enable_batching": "maybe"}, "tfserving", "true or false"),
        ({"allow_version_labels_for_unavailable_models": "2"}, "tfserving", "true or false"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_way_out(given: dict[str, str], compat: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        take(NONE | given, compat)
