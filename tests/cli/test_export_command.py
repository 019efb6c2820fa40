"""`towline export` hands out a version's own files, whole, and never in place of something that nobody gave up."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from command_line import Run

from towline.app.importing.model import import_model
from towline.app.listing import events
from towline.testing import tiny_models


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with `digits:1`, and beside it the file it was made of."""
    folder = tmp_path_factory.mktemp("imported")
    import_model(tiny_models.write(folder, tiny_models.mlp(), "digits.onnx"), home=folder / "home")
    return folder / "home"


@pytest.fixture
def digits(imported: Path, home: Path) -> Path:
    """The file that `digits:1` was made of."""
    shutil.copytree(imported, home)
    return imported.with_name("digits.onnx")


def test_the_own_file_comes_out_as_it_went_in_and_that_is_recorded(towline: Run, digits: Path, home: Path) -> None:
    done = towline("export", "digits", "--to", "onnx", "--out", "out.onnx", "-m", "for the robot", "--json").json()

    assert Path("out.onnx").read_bytes() == digits.read_bytes()
    assert (done["path"], done["files"], done["parity"]) == (str(Path.cwd() / "out.onnx"), ["."], None)
    assert [path.name for path in Path.cwd().iterdir()] == ["out.onnx"]
    newest = events(home=home)[-1]
    assert (newest.kind, newest.digest, newest.why) == ("version.exported", done["digest"], "for the robot")
    assert newest.data == {"format": "onnx", "size_bytes": done["size_bytes"]}


def test_weights_beside_the_graph_come_in_a_folder_that_runs(towline: Run, home: Path, tmp_path: Path) -> None:
    import_model(tiny_models.external(tmp_path, name="wide.onnx"), home=home)

    done = towline("export", "wide", "--to", "onnx", "--out", "wide", "--json").json()

    assert len(done["files"]) == 2
    session = onnxruntime.InferenceSession("wide/model.onnx", providers=["CPUExecutionProvider"])
    feeds = {one.name: np.zeros([size if isinstance(size, int) else 1 for size in one.shape], np.float32) for one in session.get_inputs()}
    assert np.isfinite(session.run(None, feeds)[0]).all()


def test_what_is_there_is_replaced_only_when_that_was_said_and_a_folder_never(towline: Run, digits: Path) -> None:
    Path("out.onnx").write_text("precious")
    Path("folder").mkdir()

    assert towline("export", "digits", "--to", "onnx", "--out", "out.onnx").code == 5
    assert Path("out.onnx").read_text() == "precious"
    assert towline("export", "digits", "--to", "onnx", "--out", "folder", "--overwrite").code == 5
    assert towline("export", "digits", "--to", "onnx", "--out", "out.onnx", "--overwrite").code == 0
    assert Path("out.onnx").read_bytes() == digits.read_bytes()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nothing", "--to", "onnx", "--out", "x"), 4),
        (("digits", "--to", "onnx", "--out", "no/folder/x"), 2),
        (("digits", "--to", "gguf", "--out", "x"), 2),
        (("digits", "--to", "onnx"), 2),
    ],
)
def test_what_cannot_be_asked_for_says_so_and_writes_nothing(towline: Run, digits: Path, words: tuple[str, ...], code: int) -> None:
    assert towline("export", *words).code == code
    assert list(Path.cwd().iterdir()) == []


def test_a_file_that_was_changed_in_the_store_is_not_handed_out(towline: Run, digits: Path, home: Path) -> None:
    model = next(home.glob("versions/**/model.onnx"))
    model.chmod(0o644)
    model.write_bytes(model.read_bytes() + b"x")

    assert "changed after sealing" in towline("export", "digits", "--to", "onnx", "--out", "x").err
    assert list(Path.cwd().iterdir()) == []


def test_a_handler_is_no_file_that_others_run(towline: Run, home: Path, tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text(
        "class Twice:\n    signature = {'inputs': {'x': 'float32[N]'}, 'outputs': {'y': 'float32[N]'}}\n"
        "    def predict(self, inputs):\n        return {'y': inputs['x'] * 2}\n"
    )
    import_model(f"{tmp_path / 'twice.py'}:Twice", home=home)

    ran = towline("export", "Twice", "--to", "onnx", "--out", "x")

    assert (ran.code, "handler" in ran.err) == (1, True)


def test_devices_need_an_environment_which_is_named(towline: Run, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOWLINE_ENVIRONMENTS", str(tmp_path / "none"))

    ran = towline("export", "digits", "--to", "tflite", "--out", "x")

    assert (ran.code, "towline env create onnx2tf" in ran.err) == (6, True)
    assert list(Path.cwd().iterdir()) == []
