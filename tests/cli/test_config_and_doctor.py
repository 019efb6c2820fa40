"""`config show` tells every setting and its origin; `doctor` tells a machine."""

from __future__ import annotations

import socket
import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
from command_line import Run

from towline.core.config import NO_SETTINGS, Settings

DOCS = Path(__file__).parents[2] / "docs" / "reference"


def test_flag_beats_environment_beats_file_beats_default(towline: Run, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    Path("towline.toml").write_text('port = 1111\nmax_batch = 7\nhome = "from-file"\n')
    monkeypatch.setenv("TOWLINE_PORT", "2222")

    settings = towline("config", "show", "--home", "from-flag", "--json").json()["settings"]

    assert settings["port"] == {"value": 2222, "origin": "TOWLINE_PORT"}
    assert settings["max_batch"] == {"value": 7, "origin": str(Path.cwd() / "towline.toml")}
    assert settings["home"] == {"value": str(Path.cwd() / "from-flag"), "origin": "flag"}
    assert settings["host"] == {"value": "127.0.0.1", "origin": "default"}
    assert "TOWLINE_PORT" in towline("config", "show", "--origin").out


def test_what_is_shown_can_be_a_settings_file(towline: Run) -> None:
    shown = tomllib.loads(towline("config", "show").out)

    assert set(shown) == {field.name for field in fields(Settings)}
    assert {name: value for name, value in shown.items() if name != "home"} == {
        name: value for name, value in asdict(Settings()).items() if name != "home"
    }


def test_the_file_towline_config_names_is_read_and_must_exist(towline: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOWLINE_CONFIG", str(tmp_path / "other.toml"))
    assert towline("config", "show").code == 2

    (tmp_path / "other.toml").write_text("port = 3333")
    assert towline("config", "show", "--json").json()["settings"]["port"]["value"] == 3333


def test_a_variable_that_is_no_setting_is_none(towline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_SETTINGS:
        monkeypatch.setenv(name, "" if name == "TOWLINE_CONFIG" else "/somewhere")
        assert f"`{name}" in (DOCS / "settings.md").read_text()

    assert towline("config", "show").code == 0


@pytest.mark.parametrize("content", ["prot = 1", "port = ", "port = true", "port = 1.5", "port = 1\nport = 2", "\0"])
def test_a_bad_settings_file_is_usage_and_named(towline: Run, content: str) -> None:
    Path("towline.toml").write_text(content)

    ran = towline("config", "show")

    assert ran.code == 2
    assert "towline.toml" in ran.err


def test_a_healthy_machine_has_nothing_broken(towline: Run) -> None:
    found = towline("doctor", "--json").json()

    assert found["healthy"] is True
    names = {check["name"] for check in found["checks"]}
    assert names == {
        "towline",
        "python",
        "packages",
        "extras",
        "environments",
        "processor",
        "memory",
        "open files",
        "shared memory",
        "sandbox",
        "settings",
        "home",
        "disk",
        "store",
        "port",
        "grpc port",
    }
    told = {check["name"]: check["found"] for check in found["checks"]}
    assert all(f"{package} " in told["packages"] for package in ("onnxruntime", "grpcio", "pysimdjson"))
    assert "image (pillow " in told["extras"]


def test_a_home_that_is_a_file_is_broken(towline: Run, home: Path) -> None:
    home.write_text("")

    ran = towline("doctor")

    assert ran.code == 1
    assert "broken  home" in ran.out
    assert "Broken: home" in ran.err


def test_bad_settings_are_broken_and_nothing_more_is_guessed(towline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_PORT", "99999")

    ran = towline("doctor")

    assert ran.code == 1
    assert "from 0 to 65535" in ran.out


@pytest.mark.parametrize(("setting", "name", "flag"), [("PORT", "port", "--port"), ("GRPC_PORT", "grpc port", "--grpc-port")])
def test_a_taken_port_is_told(towline: Run, monkeypatch: pytest.MonkeyPatch, setting: str, name: str, flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(f"TOWLINE_{setting}", str(taken.getsockname()[1]))
        checks = towline("doctor", "--json").json()["checks"]

    port = next(check for check in checks if check["name"] == name)
    assert port["state"] == "warn"
    assert f"{flag} 0" in port["hint"]


def test_a_store_that_is_no_store_is_broken(towline: Run, home: Path) -> None:
    home.mkdir()
    (home / "towline.db").write_bytes(b"not a database" * 1000)

    assert towline("doctor").code == 1


def test_a_changed_file_is_found_when_looking_deep(towline: Run, publish: object) -> None:
    version = publish("digits")  # type: ignore[operator]
    file = version.path / "model.onnx"
    file.chmod(0o600)
    file.write_bytes(b"WEIGHTS")

    assert towline("doctor").code == 0
    assert towline("doctor", "--deep").code == 1


def test_the_report_does_not_tell_the_users_name(towline: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert "~/home (not made yet)" in towline("doctor").out
    assert str(tmp_path) not in towline("doctor").out


@pytest.mark.parametrize("language", ["", ".zh-CN"])
def test_every_setting_is_documented_with_its_default(language: str) -> None:
    text = (DOCS / f"settings{language}.md").read_text()

    for field in fields(Settings):
        assert f"| `{field.name}` | `{_documented(field.default)}` |" in text, field.name


def _documented(default: object) -> str:
    return (
        str(default).lower()
        if isinstance(default, bool)
        else '""'
        if default == ""
        else f"{default:g}"
        if isinstance(default, float)
        else str(default)
    )
