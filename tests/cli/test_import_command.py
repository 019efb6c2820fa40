"""`towline import` end to end: real files, a real worker, a real store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import TOWLINE, Run

from towline.app.importing.model import import_model, name_from
from towline.cli import group
from towline.core.errors import ImportRefused, UsageError
from towline.testing import tiny_models, tiny_sequences

LABELS = [f"digit {number}" for number in range(10)]


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return tiny_models.write(tmp_path, tiny_models.mlp(), "mlp.onnx")


def test_a_file_becomes_a_version_with_all_that_was_found(process: Run, towline: Run, mlp: Path) -> None:
    ran = process("import", mlp, "--name", "digits", "-m", "first try", "--json")
    told = ran.json()

    assert ran.code == 0
    assert (told["name"], told["version"], told["existed"]) == ("digits", 1, False)
    assert (told["report"]["batchable"], told["report"]["parameters"], told["report"]["golden"]) == (True, 1354, 4)
    shown = towline("show", "digits", "--json").json()
    assert shown["digest"] == told["digest"]
    assert shown["manifest"]["golden"] != []
    event = towline("events", "--json").json()["events"][0]
    assert (event["kind"], event["why"], event["data"]["source"]) == ("version.imported", "first try", "mlp.onnx")


def test_what_changed_is_data_and_the_rest_is_talk(process: Run, mlp: Path) -> None:
    ran = process("import", mlp)

    assert ran.out.split()[:2] == ["mlp:1", "imported"]
    assert len(ran.out.splitlines()) == 1
    assert "towline serve mlp:1" in ran.err


def test_import_and_show_say_how_a_dim_is_padded_and_why_another_is_not(home: Path, towline: Run, tmp_path: Path) -> None:
    right = tiny_models.write(tmp_path, tiny_sequences.encoder(), "right.onnx")
    wrong = tiny_models.write(tmp_path, tiny_sequences.encoder(mask=""), "wrong.onnx")
    for model in (right, wrong):
        import_model(model, home=home)

    padded = [line for line in towline("show", "right").out.splitlines() if line.startswith("padding")]
    assert len(padded) == 1
    assert padded[0].split("  ")[-1].startswith("'T' from 1 to ")
    assert ": input_ids with 0, attention_mask with 0; cut back: vectors; answers " in padded[0]
    unpadded = [line for line in towline("show", "wrong").out.splitlines() if line.startswith("padding")]
    assert unpadded[0].split("  ")[-1].startswith("not 'T': output 'vectors' of a padded row is not what it is alone")
    assert towline("events", "--json").json()["events"][-1]["data"]["padding"] == [unpadded[0].split("  ")[-1]]


def test_the_same_file_again_is_the_same_version(process: Run, towline: Run, mlp: Path, tmp_path: Path) -> None:
    process("import", mlp, "--name", "digits")
    elsewhere = tmp_path / "other.onnx"
    elsewhere.write_bytes(mlp.read_bytes())

    again = process("import", elsewhere, "--name", "digits")

    assert again.code == 0
    assert again.out.startswith("digits:1 was there already")
    assert len(towline("ls", "--json").json()["versions"]) == 1
    assert process("import", elsewhere).out.startswith("other:1 imported"), "under another name it is another model's version"


def test_other_labels_or_another_sample_are_another_version_and_known_again(mlp: Path, home: Path, tmp_path: Path) -> None:
    labels, sample = tmp_path / "labels.txt", tmp_path / "sample.npy"
    labels.write_text("\n".join(LABELS))
    np.save(sample, np.ones((1, 10), np.float32))
    asked = [{}, {"labels": labels}, {"sample": sample}, {"labels": labels, "sample": sample}]

    first = [import_model(mlp, home=home, **given) for given in asked]  # type: ignore[arg-type]
    again = [import_model(mlp, home=home, **given) for given in asked]  # type: ignore[arg-type]

    assert [result.version.number for result in first] == [1, 2, 3, 4]
    assert [result.existed for result in first] == [False] * 4
    # Also where another version of the same file came after: its content gives the same digest.
    assert [result.version.number for result in again] == [1, 2, 3, 4]
    assert [result.existed for result in again] == [True] * 4


def test_a_version_whose_files_were_damaged_is_put_right_by_importing_again(mlp: Path, home: Path, process: Run) -> None:
    version = import_model(mlp, home=home).version
    file = version.path / version.manifest.model_file
    file.chmod(0o600)
    file.write_bytes(file.read_bytes()[:-1] + b"\xff")
    assert process("doctor", "--deep").code == 1

    assert import_model(mlp, home=home).version.digest == version.digest
    assert process("doctor", "--deep").code == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.onnx", b"", "empty"),
        ("page.onnx", b"<!DOCTYPE html><html>Not found</html>", "HTML page"),
        ("lfs.onnx", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        ("torn.onnx", tiny_models.mlp()[:2000], "torn.onnx"),
    ],
)
def test_what_is_no_model_is_named_and_leaves_nothing_behind(
    process: Run, towline: Run, tmp_path: Path, home: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)

    ran = process("import", tmp_path / name)

    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""
    assert staged(home) == []
    assert towline("ls", "--json").json()["versions"] == []


def test_a_model_that_kills_its_engine_is_refused_and_we_live(process: Run, tmp_path: Path, home: Path) -> None:
    np.savez(tmp_path / "worst.npz", a=np.array([-(2**31)], np.int32), b=np.array([-1], np.int32))
    model = tiny_models.write(tmp_path, tiny_models.integer_division(), "div.onnx")

    ran = process("import", model, "--sample", tmp_path / "worst.npz")

    assert ran.code == 1
    assert "SIGFPE" in ran.err
    assert staged(home) == []


def test_a_sample_or_labels_that_do_not_fit_are_refused(process: Run, mlp: Path, tmp_path: Path) -> None:
    (tmp_path / "two.txt").write_text("a\nb\n")
    (tmp_path / "x.json").write_text("[[1, 2, 3]]")

    for flag, file in (("--labels", "two.txt"), ("--sample", "x.json")):
        ran = process("import", mlp, flag, tmp_path / file)
        assert (ran.code, ran.out) == (1, "")
        assert "error: " in ran.err
    assert process("import", mlp, "--labels", tmp_path / "none.txt").code == 2


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("digits.onnx", "digits"),
        ("Digits.ONNX", "Digits"),
        ("my model (1).onnx", "my-model-1"),
        ("resnet50.v1.5.onnx", "resnet50.v1.5"),
        ("..weird..name.onnx", "weird.name"),
        ("_private.onnx", "private"),
        ("数字v2.onnx", "v2"),
        ("x" * 200 + ".onnx", "x" * 128),
        ("digits.bin", "digits"),
    ],
)
def test_a_file_gives_its_model_a_legal_name(file: str, name: str) -> None:
    assert name_from(Path(file)) == name


@pytest.mark.parametrize("file", ["数字.onnx", ".onnx", "---.onnx", "....onnx"])
def test_a_file_that_can_name_no_model_is_usage(file: str) -> None:
    with pytest.raises(UsageError, match="No model's name") as caught:
        name_from(Path(file))

    assert "--name" in caught.value.hint


def test_python_says_the_same_as_the_command_line(tmp_path: Path, home: Path) -> None:
    (tmp_path / "page.onnx").write_text("<html>")

    with pytest.raises(ImportRefused, match="HTML page"):
        import_model(tmp_path / "page.onnx", home=home)
    with pytest.raises(UsageError, match="No such file"):
        import_model(tmp_path / "nope.onnx", home=home)


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGTERM], 143), ([signal.SIGINT], 130), ([signal.SIGINT, signal.SIGINT], 130)],
    ids=["term", "int", "int twice"],
)
def test_a_signal_in_the_middle_of_an_import_ends_it_and_leaves_nothing(
    tmp_path: Path, home: Path, towline: Run, signals: list[signal.Signals], code: int
) -> None:
    model = tiny_models.write(tmp_path, tiny_models.slow(rounds=3_000_000), "slow.onnx")
    process = subprocess.Popen([*TOWLINE, "import", str(model)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert process.stderr
    heard = b""
    while b"Trying it" not in heard:
        line = process.stderr.readline()
        assert line, heard
        heard += line
    workers = children(process.pid)

    for number in signals:
        process.send_signal(number)
    _, rest = process.communicate(timeout=180)

    assert process.returncode == code
    assert b"Traceback" not in heard + rest
    assert workers
    assert wait_until_gone(workers)
    assert staged(home) == []
    assert towline("ls", "--json").json()["versions"] == []


def test_a_refused_import_leaves_no_process_behind(home: Path, tmp_path: Path) -> None:
    model = tiny_models.write(tmp_path, tiny_models.embedding())
    (tmp_path / "far.json").write_text("[1000000]")
    before = children(os.getpid())

    # Only the engine can refuse this one: its worker is there by then.
    with pytest.raises(ImportRefused, match="refuses the sample") as caught:
        import_model(model, sample=tmp_path / "far.json", home=home)

    # Fewer are no fault: what an earlier test left may have ended meanwhile.
    assert set(children(os.getpid())) <= set(before), caught.value


def test_a_second_ctrl_c_does_not_cut_the_cleaning_up_short_and_a_third_does() -> None:
    ours = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, group._on_interrupt)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            pytest.fail("the second Ctrl-C cut the cleaning up short")
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, ours)


def test_a_signal_in_the_middle_of_an_import_statement_is_not_swallowed_by_the_module(tmp_path: Path) -> None:
    # As numpy.random does, in C, while it registers its types.
    (tmp_path / "swallowing.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGTERM)\nexcept BaseException:\n    pass\nprint('imported', flush=True)\n"
    )
    script = """
import select, sys
from towline.cli import group

def run(arguments, begun):
    import swallowing
    select.select([], [], [])

group._run = run
sys.exit(group.run([]))
"""
    # Beside what this run was told to test: a checkout need not be the one that is installed.
    places = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", script], timeout=180, check=False, capture_output=True, env={**os.environ, "PYTHONPATH": places}
    )
    assert (done.returncode, done.stdout) == (143, b"imported\n")


def staged(home: Path) -> list[Path]:
    """What an import has left in the staging folder, looked at before anything sweeps it."""
    folder = home / "staging"
    return sorted(folder.iterdir()) if folder.exists() else []


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_until_gone(pids: list[int]) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_an_import_needs_no_current_folder_to_be_safe(process: Run, mlp: Path) -> None:
    # A file that shadows a module must not be what a child process imports.
    for name in ("onnx.py", "numpy.py", "json.py", "towline.py"):
        Path(name).write_text("raise SystemExit('a file of the current folder was run')")
    done = subprocess.run(
        [str(Path(TOWLINE[0]).parent / "towline"), "import", str(mlp), "--json"],
        capture_output=True,
        timeout=300,
        check=False,
        env=dict(os.environ),
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1
