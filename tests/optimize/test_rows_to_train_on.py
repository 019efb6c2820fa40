"""Rows to learn from come back from their files as they went in, mapped and not held."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from towline.optimize.rows import UNKNOWN, open_rows, write_rows

X = np.arange(60, dtype=np.float32).reshape(10, 2, 3)
TRUTH = np.array([UNKNOWN] * 4 + [0, 1, 2, 0, 1, 2], np.int64)


def test_rows_that_come_in_batches_are_read_back_whole(tmp_path: Path):
    batches = [({"x": X[at : at + 4]}, TRUTH[at : at + 4], {"y": -X[at : at + 4, 0]}) for at in range(0, 10, 4)]

    rows = open_rows(write_rows(tmp_path / "rows", iter(batches), count=10, output="y", held_back=3))

    np.testing.assert_array_equal(rows.inputs["x"], X)
    np.testing.assert_array_equal(rows.truth, TRUTH)
    np.testing.assert_array_equal(rows.answers["y"], -X[:, 0])
    assert (rows.output, rows.count, rows.to_fit) == ("y", 10, 7)
    assert isinstance(rows.inputs["x"], np.memmap)


def test_names_of_tensors_are_no_names_of_files(tmp_path: Path):
    rows = open_rows(write_rows(tmp_path / "rows", [({"../a/b": X}, None, {})], count=10, output="y", held_back=0))

    np.testing.assert_array_equal(rows.inputs["../a/b"], X)
    assert rows.truth is None
    assert sorted(path.name for path in tmp_path.rglob("*.npy")) == ["inputs-0.npy"]
