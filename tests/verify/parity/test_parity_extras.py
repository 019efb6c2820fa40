"""Around the judge: inputs as people give them by mistake, what stays of a refusal, labelled rows, and samples in folders and tables."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from towline.core.errors import ImportRefused, UsageError
from towline.core.manifest import Signature, TensorSpec
from towline.verify.parity.compare import judge, tolerance_for
from towline.verify.parity.labelled import labelled
from towline.verify.parity.refused import MOST_FILES, keep_worst
from towline.verify.parity.variants import variants
from towline.verify.sample_files import MAX_FILES, load_samples

PICTURE = Signature((TensorSpec("image", "float32", ("N", 3, 4, 5)),), (TensorSpec("y", "float32", ("N", 2)),))
TABLE = Signature((TensorSpec("x", "float32", ("N", 2)),), ())
RNG = np.random.default_rng(0)


# Inputs given otherwise


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x[:, ::-1], "channels in the other order (RGB against BGR) in input 'image'"),
        (lambda x: x * 255, "values 255 times as large"),
        (lambda x: x / 255, "values 255 times as small"),
        (lambda x: x * 2 - 1, "-1 to 1 where the source expects 0 to 1"),
        (lambda x: (x + 1) / 2, "0 to 1 where the source expects -1 to 1"),
    ],
)
def test_a_usual_mistake_in_the_input_is_among_those_tried(change, said):
    image = RNG.normal(0, 1, (2, 3, 4, 5)).astype(np.float32)

    found = [words for words, request in variants(PICTURE, {"image": image}) if np.allclose(request["image"], change(image), atol=1e-6)]

    assert len(found) == 1
    assert said in found[0]


def test_every_variant_fits_the_signature_and_two_alike_inputs_are_swapped():
    two = Signature((TensorSpec("a", "int64", ("N",)), TensorSpec("b", "int64", ("N",))), ())
    image = RNG.normal(0, 1, (1, 3, 4, 5)).astype(np.float32)

    assert all(one["image"].shape == image.shape and one["image"].dtype == np.float32 for _, one in variants(PICTURE, {"image": image}))
    ((said, request),) = variants(two, {"a": np.array([1]), "b": np.array([2])})
    assert said == "The conversion takes the inputs 'a' and 'b' for each other"
    assert (request["a"][0], request["b"][0]) == (2, 1)


# What stays of a refusal


def refusal(seed: int = 0):
    request = {"x": np.full((1, 2), seed, np.float32), "words": np.array([b"a", b"long"], object)}
    answers = {"y/0": np.zeros(2, np.float32)}, {"y/0": np.ones(2, np.float32)}
    return judge([(request, *answers)], tolerance_for(Signature((), (TensorSpec("y/0", "float32", (2,)),))))


def test_the_worst_input_is_kept_without_pickle_and_once(tmp_path: Path):
    path = keep_worst(refusal(), tmp_path / "refused", "net")

    assert keep_worst(refusal(), tmp_path / "refused", "net") == path
    assert [one.name for one in (tmp_path / "refused").iterdir()] == [path.name]
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["request/words"].tolist() == [b"a", b"long"]
        assert arrays["conversion/y/0"].tolist() == [1, 1]


def test_only_the_newest_few_are_kept_and_none_that_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for seed in range(MOST_FILES + 3):
        newest = keep_worst(refusal(seed), tmp_path, "net")

    assert len(list(tmp_path.iterdir())) == MOST_FILES
    assert newest.is_file()
    monkeypatch.setattr("towline.verify.parity.refused.MAX_BYTES", 4)
    assert keep_worst(refusal(99), tmp_path, "net") is None


# Labelled rows


def batches(truth: np.ndarray, **outputs: tuple[np.ndarray, np.ndarray]):
    middle = len(truth) // 2
    for part in (slice(0, middle), slice(middle, None)):
        yield truth[part], *({name: pair[side][part] for name, pair in outputs.items()} for side in (0, 1))


def test_accuracy_is_measured_on_both_sides():
    truth = np.array([0, 1, 2, 1])
    good, bad = np.eye(3, dtype=np.float32)[truth], np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]

    found = labelled(list(batches(truth, features=(truth[:, None] * 1.5, truth[:, None] * 1.5), y=(good, bad))))

    assert found.words() == "On 4 labelled rows, by output 'y': accuracy 1 in the source, 0.75 converted."
    assert found.as_json()["conversion"] == 0.75


@pytest.mark.parametrize(
    ("output", "accuracy"),
    [
        (np.array([0, 1, 1]), 2 / 3),
        (np.array([[0.1], [0.9], [0.2]], np.float32), 1.0),
        (np.array([False, True, True]), 2 / 3),
    ],
)
def test_classes_and_single_scores_count_as_answers_too(output, accuracy):
    assert labelled(list(batches(np.array([0, 1, 0]), y=(output, output)))).source == pytest.approx(accuracy)


def test_values_are_measured_by_their_mean_absolute_error():
    truth = np.array([1.0, 2.0, 4.0])

    found = labelled(list(batches(truth, y=(truth[:, None] + 1, truth[:, None] - 2))))

    assert (found.metric, found.source, found.conversion) == ("mean absolute error", 1.0, 2.0)


def test_labels_that_no_output_can_be_measured_against_are_refused():
    with pytest.raises(UsageError, match="no output of the model holds scores or classes"):
        labelled(list(batches(np.array([0, 5]), y=(np.zeros((2, 3)), np.zeros((2, 3))))))


# Samples


def test_a_folder_is_a_sample_per_file_in_the_order_of_names(tmp_path: Path):
    np.save(tmp_path / "b.npy", np.array([[3.0, 4.0]]))
    np.savez(tmp_path / "a.npz", x=np.array([[1.0, 2.0]]))
    (tmp_path / ".hidden").write_text("no sample")

    assert [request["x"].tolist() for request in load_samples(tmp_path, TABLE)] == [[[1, 2]], [[3, 4]]]


def test_a_table_gives_its_rows_with_columns_as_features(tmp_path: Path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["first", "second", "label"], *([number, number / 2, 1] for number in range(300))])

    first, second = load_samples(path, TABLE)

    assert len(first["x"]) == 256
    assert second["x"][-1].tolist() == [299, 149.5]
    assert first["x"].dtype == np.float32


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no files"),
        ({f"{number}.npy": b"" for number in range(MAX_FILES + 1)}, f"holds {MAX_FILES + 1} files"),
        ({"a.npy": b"\x93NUMPY"}, "'a.npy': it is a damaged .npy file"),
        ({"a.csv": b"x\n"}, "'a.csv': it has no rows"),
    ],
)
def test_a_folder_that_holds_no_samples_is_refused_by_what_is_wrong(tmp_path: Path, files, said):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    with pytest.raises(ImportRefused) as refusal:
        load_samples(tmp_path, TABLE)
    assert said in refusal.value.message
    assert refusal.value.code == "BAD_SAMPLE"
