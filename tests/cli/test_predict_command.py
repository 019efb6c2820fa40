"""`towline predict` in this process and on a running server, and `towline.load` behind it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from command_line import TOWLINE, Run

import towline as package
from towline.app.predicting.predict import Target, parse_target
from towline.core.errors import InvalidRequest, NotFound, VersionError
from towline.testing import tiny_models

ROWS = np.random.default_rng(7).normal(size=(3, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a few models, imported once."""
    folder = tmp_path_factory.mktemp("models")
    home = folder / "store"
    (folder / "labels.txt").write_text("\n".join(f"class {number}" for number in range(10)))
    package.import_model(tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx"), labels=folder / "labels.txt", home=home)
    package.import_model(tiny_models.write(folder, tiny_models.add_two(), "add.onnx"), home=home)
    package.import_model(tiny_models.write(folder, tiny_models.identity("string"), "text.onnx"), home=home)
    package.import_model(tiny_models.write(folder, tiny_models.logarithm(), "log.onnx"), home=home)
    return home


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return onnxruntime.InferenceSession(tiny_models.mlp()).run(None, {"x": ROWS})[0]  # type: ignore[no-any-return]


@pytest.fixture
def here(store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOWLINE_HOME", str(store))
    return store


def test_json_from_a_pipe_is_answered_as_the_model_answers(process: Run, here: Path, expected: np.ndarray) -> None:
    ran = process("predict", "mlp", "--json", stdin=json.dumps(ROWS.tolist()).encode())
    output = ran.json()["outputs"][0]

    assert ran.code == 0
    assert (output["name"], output["dtype"], output["shape"]) == ("y", "float32", [3, 10])
    np.testing.assert_allclose(np.float32(output["data"]), expected, rtol=1e-5)


def test_people_see_the_shape_and_the_best_label(process: Run, here: Path, expected: np.ndarray) -> None:
    ran = process("predict", "mlp:1", stdin=json.dumps(ROWS[:1].tolist()).encode())

    assert ran.out.startswith("y float32[1,10]\n")
    assert f"-> class {int(expected[0].argmax())}  " in ran.out


def test_arrays_go_in_and_out_as_files(process: Run, here: Path, tmp_path: Path, expected: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", ROWS)
    np.savez(tmp_path / "x.npz", x=ROWS)

    for name in ("x.npy", "x.npz"):
        for suffix in ("npy", "npz"):
            out = tmp_path / f"{name}-out.{suffix}"
            assert process("predict", "mlp", "-i", tmp_path / name, "-o", out).code == 0
            loaded = np.load(out)
            np.testing.assert_allclose(loaded if suffix == "npy" else loaded["y"], expected, rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_an_output_that_cannot_be_written_leaves_nothing(process: Run, here: Path) -> None:
    # No file can be made in /proc, whoever asks.
    ran = process("predict", "mlp", "-o", "/proc/out.npy", stdin=json.dumps(ROWS.tolist()).encode())

    assert ran.code == 2
    assert "nothing was written" in ran.err


def test_what_json_cannot_say_is_spelled_out(process: Run, here: Path) -> None:
    def answers(model: str, given: str) -> object:
        return process("predict", model, "--json", stdin=given.encode()).json()["outputs"][0]["data"]

    assert answers("log", "[[0, -1]]") == [["-Infinity", "NaN"]]
    assert answers("text", '[["a", "数"]]') == [["a", "数"]]


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("mlp", "[[1, 2]]", "takes shape [N, 10]"),
        ("mlp", "[1, 2]", "takes shape"),
        ("mlp", '{"z": 1}', "Input 'x' is missing"),
        ("mlp", "[[true, 1, 1, 1, 1, 1, 1, 1, 1, 1]]", "true or false"),
        ("mlp", "[[1], [2, 3]]", "unequal length"),
        ("add", "[[1, 2]]", "2 inputs"),
        ("add", '{"a": [[1, 2]], "b": [[1, 2], [3, 4]]}', "DIM_MISMATCH N"),
        ("add", '{"a": [[1, 2]], "b": [[1, 2]], "c": 1}', "no input 'c'"),
        ("text", "[[1, 2]]", "takes text"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_and_named(process: Run, here: Path, model: str, given: str, said: str) -> None:
    ran = process("predict", model, stdin=given.encode())

    assert ran.code == 1
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_load_gives_arrays_for_arrays_and_dicts_for_dicts(here: Path, expected: np.ndarray) -> None:
    model = package.load("mlp")

    np.testing.assert_allclose(model.predict(ROWS), expected, rtol=1e-5)
    np.testing.assert_allclose(model.predict({"x": ROWS})["y"], expected, rtol=1e-5)
    assert (str(model.version), model.signature.inputs[0].name, model.labels[3]) == ("mlp:1", "x", "class 3")
    assert package.load("text").predict([["é", "b"]]).tolist() == [["é".encode(), b"b"]]
    with pytest.raises(NotFound):
        package.load("mlp:9")


def test_several_threads_may_share_a_loaded_model(here: Path, expected: np.ndarray) -> None:
    from concurrent.futures import ThreadPoolExecutor

    model = package.load("mlp")
    with ThreadPoolExecutor(4) as threads:
        got = list(threads.map(lambda row: model.predict(ROWS[row : row + 1]), [0, 1, 2] * 20))

    for row, answer in zip([0, 1, 2] * 20, got, strict=True):
        np.testing.assert_allclose(answer, expected[row : row + 1], rtol=1e-4)


def test_load_imports_a_file_first(tmp_path: Path, home: Path, expected: np.ndarray) -> None:
    model = package.load(tiny_models.write(tmp_path, tiny_models.mlp(), "fresh.onnx"))

    assert str(model.version) == "fresh:1"
    np.testing.assert_allclose(model.predict(ROWS), expected, rtol=1e-5)


def test_a_changed_byte_is_never_loaded(tmp_path: Path, home: Path) -> None:
    version = package.import_model(tiny_models.write(tmp_path, tiny_models.mlp())).version
    file = version.path / version.manifest.model_file
    file.chmod(0o600)
    raw = bytearray(file.read_bytes())
    raw[-100] ^= 1
    file.write_bytes(raw)

    with pytest.raises(VersionError, match="changed after sealing"):
        package.load("model")


def test_a_version_that_answers_otherwise_than_at_import_is_not_loaded(tmp_path: Path, home: Path) -> None:
    """Sealed, but wrong: the golden answers of one model beside the weights of another."""
    import msgspec

    from towline.core.frames import decode_frame, encode_frame
    from towline.store.sqlite import open_store

    version = package.import_model(tiny_models.write(tmp_path, tiny_models.mlp())).version
    with open_store(home) as store, store.stage() as staged:
        for file in sorted(version.path.rglob("*")):
            place = staged / file.relative_to(version.path)
            place.mkdir() if file.is_dir() else place.write_bytes(file.read_bytes())
        golden = staged / version.manifest.golden[0].response
        golden.write_bytes(encode_frame({name: array[:, ::-1].copy() for name, array in decode_frame(golden.read_bytes()).items()}))
        assert msgspec.json.decode((staged / "manifest.json").read_bytes())
        wrong = store.publish(staged, "wrong", actor="ann")

    with pytest.raises(VersionError, match="not answer as it did when it was imported"):
        package.load(wrong.digest)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h:1", Target("http://h:1", "", None)),
        ("http://h:1/v2/models/m", Target("http://h:1", "m", None)),
        ("https://h/base/v2/models/m/versions/3/infer", Target("https://h/base", "m", 3)),
        ("http://h:1/other", Target("http://h:1/other", "", None)),
    ],
)
def test_a_url_names_server_model_and_version(url: str, target: Target) -> None:
    assert parse_target(url) == target


def test_a_server_that_is_not_there_is_exit_code_7(process: Run) -> None:
    ran = process("predict", "http://127.0.0.1:9/v2/models/m", stdin=b"[[1]]")

    assert ran.code == 7
    assert "Nobody answers" in ran.err


@pytest.fixture(scope="module")
def served(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real `towline serve` with all models of the store."""
    folder = tmp_path_factory.mktemp("serving")
    command = [*TOWLINE, "serve", "mlp", "add", "text", "--home", str(store), "--port", "0", "--grpc-port", "0"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr
    try:
        url = ""
        while not url:
            line = process.stderr.readline()
            assert line, "the server ended before it was ready"
            if line.startswith("Serving "):
                url = line.partition(" on ")[2].split()[0]
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=300)
    assert process.returncode == 0, rest


def test_the_client_and_the_real_server_understand_each_other(served: str, expected: np.ndarray) -> None:
    with package.Client(served) as client:
        assert client.is_ready()
        assert set(client.models()) == {"mlp", "add", "text"}
        assert client.metadata("mlp").inputs[0].shape == (-1, 10)
        np.testing.assert_allclose(client.predict("mlp", ROWS), expected, rtol=1e-5)
        np.testing.assert_allclose(client.predict("mlp", ROWS, version=1), expected, rtol=1e-5)
        assert client.predict("add", {"a": [[1, 2]], "b": [[3, 4]]})["y"].tolist() == [[4, 6]]
        assert client.predict("text", [["数", ""]]).tolist() == [["数".encode(), b""]]
        with pytest.raises(NotFound):
            client.predict("nope", ROWS)
        with pytest.raises(InvalidRequest, match="10"):
            client.predict("mlp", ROWS[:, :3])


def test_predict_at_a_url_asks_the_server(process: Run, served: str, expected: np.ndarray) -> None:
    given = json.dumps(ROWS.tolist()).encode()

    output = process("predict", f"{served}/v2/models/mlp", "--json", stdin=given).json()["outputs"][0]
    several = process("predict", served, stdin=given)

    np.testing.assert_allclose(np.float32(output["data"]), expected, rtol=1e-5)
    assert several.code == 1
    assert "serves 3 models" in several.err
    assert process("predict", f"{served}/v2/models/nope", stdin=given).code == 4


def test_ps_shows_the_real_server(process: Run, served: str, here: Path) -> None:
    server = next(server for server in process("ps", "--json").json()["servers"] if server["url"] == served)

    assert {(model["name"], model["state"]) for model in server["models"]} == {("mlp", "ready"), ("add", "ready"), ("text", "ready")}
    assert process("rm", "mlp:1", "--yes").code == 5
