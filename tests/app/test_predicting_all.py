"""A version answers a whole data set into a file: what is read back is what a single request would have been answered."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

import towline
from towline.app.predicting.data_set import best_labels, predict_all
from towline.core.errors import UsageError
from towline.testing import tiny_models
from towline.verify.data import writing
from towline.verify.data.writing import ENDINGS, harmless, sink_for

ROWS = 150


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    (folder / "labels.txt").write_text("\n".join(f"class {number}" for number in range(10)))
    towline.import_model(tiny_models.write(folder, tiny_models.mlp(), "m.onnx"), labels=folder / "labels.txt", home=folder / "home")
    towline.import_model(tiny_models.write(folder, tiny_models.identity("string"), "text.onnx"), home=folder / "home")
    towline.import_model(tiny_models.write(folder, tiny_models.logarithm(), "log.onnx"), home=folder / "home")
    return folder / "home"


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(ROWS, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def data(home: Path, x: np.ndarray) -> Path:
    """With labels that the version does not know: they are nobody's business here."""
    np.savez(home / "data.npz", x=x, label=np.array(["cat"] * ROWS))
    return home / "data.npz"


@pytest.fixture(scope="module")
def expected(home: Path, x: np.ndarray) -> np.ndarray:
    return towline.load("m", home=home).predict(x)  # type: ignore[no-any-return]


def read(place: Path) -> np.ndarray:
    if place.suffix == ".npz":
        with np.load(place) as arrays:
            return arrays["y"]  # type: ignore[no-any-return]
    if place.suffix == ".parquet":
        return np.array(parquet.read_table(place)["y"].to_pylist())
    if place.suffix == ".csv":
        lines = list(csv.DictReader(io.StringIO(place.read_text(), newline="")))
        return np.array([[float(line[f"y_{column}"]) for column in range(10)] for line in lines])
    return np.array([json.loads(line)["outputs"]["y"] for line in place.read_text().splitlines()])


def table(place: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(place.read_text(), newline="")))


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_row_is_answered_in_order_as_alone(home: Path, data: Path, expected: np.ndarray, tmp_path: Path, ending: str):
    seen: list[tuple[int, int]] = []

    written = predict_all("m", data, tmp_path / f"out{ending}", home=home, progress=lambda done, of: seen.append((done, of)))

    assert written.rows == ROWS
    assert seen[-1] == (ROWS, ROWS)
    assert len(seen) > 1
    np.testing.assert_allclose(read(tmp_path / f"out{ending}"), expected, rtol=1e-4, atol=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == [f"out{ending}"]


def test_rows_have_names_and_the_best_label(home: Path, data: Path, expected: np.ndarray, tmp_path: Path):
    predict_all("m", data, tmp_path / "o.jsonl", limit=2, home=home)

    lines = [json.loads(line) for line in (tmp_path / "o.jsonl").read_text().splitlines()]

    assert [line["row"] for line in lines] == ["row 1", "row 2"]
    assert [line["label"] for line in lines] == [f"class {best}" for best in expected[:2].argmax(axis=1)]


def test_text_and_numbers_beyond_json_are_spelled_out(home: Path, tmp_path: Path):
    np.savez(tmp_path / "log.npz", x=np.float32([[-1, 0]]))
    (tmp_path / "text.jsonl").write_text('{"x": ["数", "a\\"b,\\n"]}\n')

    predict_all("log", tmp_path / "log.npz", tmp_path / "log.csv", home=home)
    predict_all("text", tmp_path / "text.jsonl", tmp_path / "o.csv", home=home)
    predict_all("text", tmp_path / "text.jsonl", tmp_path / "o.parquet", home=home)

    assert table(tmp_path / "log.csv")[1] == ["row 1", "NaN", "-Infinity"]
    assert table(tmp_path / "o.csv")[1] == ["line 1", "数", 'a"b,\n']
    assert parquet.read_table(tmp_path / "o.parquet")["y"].to_pylist() == [["数".encode(), b'a"b,\n']]


@pytest.mark.parametrize(
    ("output", "said"),
    [("data.npz", "is the input"), ("there.csv", "exists"), ("o.txt", r"must end in \.csv"), ("no/o.csv", "there is no folder")],
)
def test_a_file_that_cannot_be_made_is_refused_before_the_model_runs(home: Path, data: Path, output: str, said: str):
    (home / "there.csv").write_text("mine")

    with pytest.raises(UsageError, match=said):
        predict_all("nobody", data, home / output, home=home)

    assert (home / "there.csv").read_text() == "mine"


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_batch_that_fails_leaves_no_file(home: Path, data: Path, tmp_path: Path, ending: str):
    def stop(done: int, of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_all("m", data, tmp_path / f"o{ending}", home=home, progress=stop)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_lines_are_out_as_soon_as_they_are_known(tmp_path: Path, ending: str):
    with (tmp_path / "o").open("wb", buffering=0) as file, sink_for(ending, file) as sink:
        sink.write(["row 1"], {"y": np.float32([[1, 2]])}, [])

        assert "row 1" in (tmp_path / "o").read_text()


def test_parquet_is_written_group_by_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(writing, "ROWS_PER_GROUP", 2)
    with (tmp_path / "o.parquet").open("wb") as file, sink_for(".parquet", file) as sink:
        for row in range(5):
            sink.write([f"row {row}"], {"y": np.float16([row]), "z": np.uint8([[[row, 1]]])}, ["a"])

    with parquet.ParquetFile(tmp_path / "o.parquet") as found:
        groups, rows = found.num_row_groups, found.read().to_pylist()

    assert groups == 3
    assert rows[3] == {"row": "row 3", "y": 3.0, "z": [[3, 1]], "label": "a"}


def test_rows_of_unlike_size_fit_lines_and_no_table(tmp_path: Path):
    def write(ending: str) -> None:
        with (tmp_path / f"o{ending}").open("wb") as file, sink_for(ending, file) as sink:
            for size in (1, 2):
                sink.write(["r"], {"y": np.zeros((1, 1, size))}, [])

    write(".jsonl")
    write(".parquet")
    for ending in (".csv", ".npz"):
        with pytest.raises(UsageError, match="cannot be written so"):
            write(ending)


@pytest.mark.parametrize(
    ("answers", "labels", "best"),
    [
        ({"y": np.float32([[1, 2], [3, 0]])}, ("a", "b"), ["b", "a"]),
        ({"y": np.float32([[1, 2]])}, (), []),
        ({"y": np.float32([[1, 2]])}, ("a",), []),
        ({"y": np.float32([[1, 2]]), "z": np.float32([[1, 2]])}, ("a", "b"), []),
        ({"y": np.float32([[1, 2]]), "label": np.int64([1])}, ("a", "b"), []),
    ],
)
def test_a_label_is_told_where_one_output_has_a_score_for_each(answers: Any, labels: tuple[str, ...], best: list[str]):
    assert best_labels(answers, labels) == best


@pytest.mark.parametrize("word", ["=1+1", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0"])
def test_a_word_that_a_spreadsheet_would_run_is_text_in_a_csv(word: str):
    file = io.BytesIO()
    with sink_for(".csv", file) as sink:
        sink.write([f"{word}.png"], {word: np.array([word], dtype=object), "n": np.float32([-1.5])}, [word])

    rows = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))

    assert rows == [["row", f"'{word}", "n", "label"], [f"'{word}.png", f"'{word}", "-1.5", f"'{word}"]]


@pytest.mark.parametrize("word", ["-1", "+1.5e3", "row 1", "", "a=b", "数", "'"])
def test_numbers_and_other_words_stay_as_they_are_in_a_csv(word: str):
    assert harmless(word) == word
