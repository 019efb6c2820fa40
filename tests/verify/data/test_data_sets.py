"""Rows and truths out of the files that people have, and one clear line for those that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from towline.core.errors import UsageError
from towline.core.manifest import Signature, TensorSpec
from towline.verify.accuracy import Answered, judged, reading_of
from towline.verify.data.dataset import DataSet, in_memory
from towline.verify.data.opening import open_data
from towline.verify.metrics.regression import Regressed

MATRIX = Signature((TensorSpec("x", "float32", ("N", 2)),), (TensorSpec("y", "float32", ("N", 3)),))
COLUMNS = Signature((TensorSpec("age", "float32", ("N", 1)), TensorSpec("city", "string", ("N", 1))), ())
PICTURE = Signature((TensorSpec("image", "string", ("N",)),), ())


def whole(data: DataSet) -> dict[str, np.ndarray]:
    return data.read(0, data.rows)


def test_an_archive_has_an_array_per_input_and_one_of_labels(tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.float64([[1, 2], [3, 4], [5, 6]]), labels=np.uint8([2, 0, 1]))

    data = open_data(tmp_path / "d.npz", MATRIX)

    assert whole(data)["x"].dtype == np.float32
    assert data.truth is not None
    assert data.truth.tolist() == [2, 0, 1]
    assert [(batch.start, batch.rows) for batch in data.batches(2)] == [(0, 2), (2, 1)]
    assert data.first(1).rows == 1


def test_a_table_is_one_matrix_or_a_column_per_input(tmp_path: Path):
    (tmp_path / "m.csv").write_text("a,b,label\n1,2,0\n3,4.5,1\n")
    (tmp_path / "c.csv").write_text("city,age,target\nBern,7,1.5\nRome,8,2.25\n")

    matrix, columns = open_data(tmp_path / "m.csv", MATRIX), open_data(tmp_path / "c.csv", COLUMNS)

    assert whole(matrix)["x"].tolist() == [[1, 2], [3, 4.5]]
    assert whole(columns)["city"].tolist() == [[b"Bern"], [b"Rome"]]
    assert columns.truth is not None
    assert (columns.truth.dtype, columns.truth.tolist()) == (np.float64, [1.5, 2.25])


def test_parquet_and_json_lines_are_read_alike(tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"a": [1.0, 3.0], "b": [2.0, 4.0], "label": ["cat", "dog"]}), tmp_path / "d.parquet")
    (tmp_path / "d.jsonl").write_text(
        "".join(json.dumps({"inputs": [i, i + 1], "label": name}) + "\n" for i, name in ((1, "cat"), (3, "dog")))
    )

    for name in ("d.parquet", "d.jsonl"):
        data = open_data(tmp_path / name, MATRIX, known=("dog", "bird", "cat"))

        assert whole(data)["x"].tolist() == [[1, 2], [3, 4]]
        assert data.truth is not None
        assert data.truth.tolist() == [2, 0]


def test_a_folder_of_pictures_has_a_class_per_subfolder_and_is_read_late(tmp_path: Path):
    for name, content in (("cat/b.png", b"two"), ("cat/a.jpg", b"one"), ("dog/c.webp", b"three"), ("dog/notes.txt", b"")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)

    data = open_data(tmp_path, PICTURE)
    (tmp_path / "dog" / "c.webp").unlink()

    assert (data.rows, data.classes, data.names(1)) == (3, ("cat", "dog"), "cat/b.png")
    assert data.read(0, 2)["image"].tolist() == [b"one", b"two"]
    with pytest.raises(UsageError, match=r"c\.webp"):
        data.read(2, 3)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.csv", "a,b,label\n1,x,0\n", "column 'b' holds 'x'"),
        ("d.csv", "a,b,label\n1,2\n", "line 2 has 2 fields"),
        ("d.csv", "a,b\n", "no rows"),
        ("d.csv", "a,b,c,label\n1,2,3,0\n", r"expected \[N, 2\]"),
        ("d.jsonl", '{"inputs": [1, 2]}\n{"inputs": [1, 2], "label": 1}\n', "1 of its 2 lines have no label"),
        ("d.jsonl", "{", "line 1 is not JSON"),
        ("d.npz", "nonsense", "damaged"),
        ("d.parquet", "nonsense", "no Parquet"),
        ("d.txt", "", "none of .npz"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, content: str, said: str):
    (tmp_path / name).write_text(content)

    with pytest.raises(UsageError, match=said) as refusal:
        open_data(tmp_path / name, MATRIX)

    assert refusal.value.code == "BAD_DATA"


def test_words_that_are_no_labels_and_columns_that_are_not_there_are_named(tmp_path: Path):
    (tmp_path / "d.csv").write_text("a,b,label\n1,2,cow\n")

    with pytest.raises(UsageError, match="'cow' is no label of this version; it has cat"):
        open_data(tmp_path / "d.csv", MATRIX, known=("cat", "dog"))
    with pytest.raises(UsageError, match="no column 'kind'"):
        open_data(tmp_path / "d.csv", MATRIX, label="kind")
    with pytest.raises(UsageError, match="takes tensors"):
        open_data(tmp_path, MATRIX)


def test_rows_and_labels_of_unlike_number_are_told(tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.zeros(2, int))

    with pytest.raises(UsageError, match="x has 3, the labels has 2"):
        open_data(tmp_path / "d.npz", MATRIX)


def test_numbers_of_an_archive_stored_as_floats_are_values_and_not_classes(tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 2)), y=np.float32([3, 4]))

    data = open_data(tmp_path / "d.npz", MATRIX)

    assert data.truth is not None
    assert data.truth.dtype == np.float64


def test_a_column_of_whole_numbers_is_a_class_a_row(tmp_path: Path):
    np.savez(tmp_path / "d.npz", x=np.zeros((3, 2)), y=np.array([[2], [0], [1]]))

    truth = open_data(tmp_path / "d.npz", MATRIX).truth

    assert truth is not None
    assert truth.tolist() == [2, 0, 1]


def test_several_labels_of_a_row_are_judged_each_by_its_error():
    truth = np.array([[1, 0, 1], [0, 1, 0]])
    reading = reading_of(MATRIX, in_memory({"x": np.zeros((2, 2))}, "", truth))
    answers = np.array([[0.5, 0, 1], [0, 1, 0.25]], np.float32)

    found = judged(Answered(reading, answers, (), 2, 0), truth)

    assert isinstance(found, Regressed)
    assert found.mae == pytest.approx(0.75 / 6)
    with pytest.raises(UsageError, match=r"labels have shape \[2, 4\], the answers \[2, 3\]"):
        judged(Answered(reading, answers, (), 2, 0), np.ones((2, 4), int))
