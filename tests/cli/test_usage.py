"""What people type wrong: exit code 2, one line that says what was expected, one that says what fixes it."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import TOWLINE, Ran, Run


def is_one_error_with_a_hint(ran: Ran) -> bool:
    lines = ran.err.splitlines()
    return ran.out == "" and len(lines) == 2 and lines[0].startswith("error: ") and lines[1].startswith("  hint: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("lss",), "Did you mean 'ls'"),
        (("ls", "--jsn"), "--jsn"),
        (("ls", "--limit", "0"), "1<=x<=100000"),
        (("ls", "--limit", "many"), "many"),
        (("show",), "REF"),
        (("show", "no spaces"), "cannot name a model"),
        (("show", "a:0"), "number from 1"),
        (("show", "a@7"), "cannot name an alias"),
        (("ls", "../etc"), "cannot name a model"),
        (("alias", "digits", "1"), "cannot name an alias"),
        (("rm", "a:1:2"), "not a version"),
        (("show", "x" * 500), "cannot name a model"),
    ],
)
def test_a_word_that_means_nothing_is_usage(towline: Run, words: tuple[str, ...], said: str) -> None:
    ran = towline(*words)

    assert ran.code == 2
    assert said in ran.err
    assert is_one_error_with_a_hint(ran)
    assert len(ran.err) < 600


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--port", "70000"), "'port' must be from 0 to 65535, got 70000"),
        (("--port", "-1"), "from 0 to 65535"),
        (("--port", "80 "), "'port' must be a whole number, got '80 '"),
        (("--port", "http"), "whole number"),
        (("--port", "8e3"), "whole number"),
        (("--drain-timeout", "-1"), "from 0 to 3600"),
        (("--drain-timeout", "5 s"), "a number of seconds, got '5 s'"),
        (("--drain-timeout", "1e99"), "from 0 to 3600"),
        (("--drain-timeout", "nan"), "a number of seconds"),
        (("--isolation", "full"), "one of process, none"),
        (("--watch", "nowhere"), "not a folder"),
    ],
)
def test_a_setting_outside_its_range_is_usage_and_names_the_range(towline: Run, words: tuple[str, ...], said: str) -> None:
    ran = towline("serve", *words)

    assert ran.code == 2
    assert said in ran.err
    assert ran.out == ""


def test_a_misspelt_setting_is_refused_with_the_nearest_one(towline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_PROT", "80")

    ran = towline("config", "show")

    assert ran.code == 2
    assert "TOWLINE_PROT" in ran.err
    assert "Did you mean 'port'?" in ran.err


@pytest.mark.parametrize("verb", ["import", "predict"])
@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "zero", "secret", "below a file"])
def test_what_is_no_readable_file_is_one_line(process: Run, tmp_path: Path, publish: object, verb: str, kind: str) -> None:
    place = tmp_path / "model.onnx"
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "zero":
        place = Path("/dev/zero")
    elif kind == "secret":
        place.write_bytes(b"x")
        place.chmod(0)
    elif kind == "below a file":
        (tmp_path / "plain").write_bytes(b"x")
        place = tmp_path / "plain" / "model.onnx"

    words = ("import", place) if verb == "import" else ("predict", "digits", "--input", place)
    ran = process(*words, may_read_all=kind != "secret")

    assert ran.code == 2
    assert is_one_error_with_a_hint(ran)
    assert str(place) in ran.err


def test_a_secret_among_the_arguments_is_refused_unrepeated(process: Run) -> None:
    for words in (("--key", "hunter2", "http://127.0.0.1:1"), ("http://ann:hunter2@127.0.0.1:1",)):
        ran = process("predict", *words, stdin=b"[1]")

        assert ran.code == 2
        assert "--key-file" in ran.err
        assert "hunter2" not in ran.err + ran.out


def test_an_output_that_exists_or_is_the_input_is_left_alone(process: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    before = (tmp_path / "x.npy").read_bytes()

    ran = process("predict", "digits", "-i", tmp_path / "x.npy", "-o", tmp_path / "x.npy")

    assert ran.code == 2
    assert "is the input" in ran.err
    assert (tmp_path / "x.npy").read_bytes() == before
    assert "exists" in process("predict", "digits", "-i", "-", "-o", tmp_path / "x.npy", stdin=b"[1]").err


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"true", b"[" * 200_000, b"\xff\xfe"])
def test_an_input_that_is_no_json_is_usage(process: Run, content: bytes) -> None:
    ran = process("predict", "digits", stdin=content)

    assert ran.code == 2
    assert is_one_error_with_a_hint(ran)


def test_an_array_that_holds_a_pickle_is_never_unpickled(process: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)

    ran = process("predict", "digits", "-i", tmp_path / "x.npy")

    assert ran.code == 2
    assert "would need pickle" in ran.err


def test_no_command_shows_help_and_is_no_failure(towline: Run) -> None:
    ran = towline()

    assert ran.code == 0
    assert ran.out.startswith("Usage: towline")


def test_the_version_is_told(towline: Run) -> None:
    import towline as package

    assert towline("--version").out == f"towline {package.__version__}\n"


def test_a_reader_that_goes_away_ends_it_quietly_with_141(process: Run) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([*TOWLINE, "config", "show"], stdout=write_end, stderr=subprocess.PIPE, timeout=300, check=False)
    os.close(write_end)

    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_stdout_and_a_full_disk_make_no_traceback() -> None:
    closed = subprocess.run(["bash", "-c", '"$@" >&-', "sh", *TOWLINE, "config", "show"], capture_output=True, timeout=300, check=False)
    with open("/dev/full", "w") as full:
        done = subprocess.run([*TOWLINE, "config", "show"], stdout=full, stderr=subprocess.PIPE, timeout=300, check=False)

    assert (closed.returncode, closed.stderr) == (0, b"")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}, {"TERM": "dumb"}, {"COLUMNS": "20"}])
def test_any_locale_and_terminal_will_do(process: Run, locale: dict[str, str], publish: object) -> None:
    publish("digits", why="数字")  # type: ignore[operator]

    ran = process("events", **locale)

    assert ran.code == 0
    assert "version.imported" in ran.out


def test_a_fault_of_ours_is_one_line_unless_debugging(process: Run, home: Path) -> None:
    # A folder where a file is meant to be is nothing any code expects.
    home.mkdir()
    (home / "run").mkdir()
    (home / "run" / "server-1.json").mkdir()

    plain, debugged = process("ps"), process("ps", TOWLINE_DEBUG="1")

    assert plain.code == 1
    assert is_one_error_with_a_hint(plain)
    assert "Traceback" in debugged.err


def test_new_folders_of_the_store_are_private(publish: object, home: Path) -> None:
    publish("digits")  # type: ignore[operator]

    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_value_from_the_environment_is_refused_by_the_name_of_its_variable(towline: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_PORT", "http")

    assert "'port' must be a whole number, got 'http' (TOWLINE_PORT)" in towline("config", "show").err


def test_a_folder_of_numbered_versions_is_pointed_to_its_newest_file(towline: Run) -> None:
    for number in (1, 2):
        Path(f"digits/{number}").mkdir(parents=True)
        Path(f"digits/{number}/model.onnx").touch()

    ran = towline("import", "digits")

    assert ran.code == 2
    assert "digits/2/model.onnx" in ran.err
    assert "towline serve --watch digits" in ran.err
