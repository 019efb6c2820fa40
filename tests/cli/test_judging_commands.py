"""`towline test` and `towline compare` as a shell sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import Run

import towline as package
from towline.testing import tiny_models


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    package.import_model(tiny_models.write(folder, tiny_models.mlp(), "m.onnx"), home=folder / "home")
    x = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)
    np.savez(folder / "data.npz", x=x, labels=package.load("m", home=folder / "home").predict(x).argmax(axis=1))
    (folder / "gates.toml").write_text('[gates]\naccuracy = "> 1"\n')
    return folder


def test_a_test_prints_its_figures_and_its_json_keeps_the_schema(place: Path, towline: Run):
    told = towline("test", "m", "--data", str(place / "data.npz"), "--home", str(place / "home"), "--no-speed", "--no-robustness")
    as_json = towline("test", "m", "--data", str(place / "data.npz"), "--home", str(place / "home"), "--no-speed", "--json")

    assert told.code == 0
    assert "accuracy        100.00 %" in told.out
    assert as_json.json()["passed"] is True


def test_whatever_is_measured_is_told_and_a_metric_of_ones_own_judges(place: Path, towline: Run):
    (place / "mine.py").write_text("def rows_lost(answers, truth):\n    return int((answers.argmax(1) != truth).sum())\n")
    common = ("--data", str(place / "data.npz"), "--home", str(place / "home"), "--no-speed")

    told = towline("test", "m", *common, "--metric", f"{place}/mine.py:rows_lost", "--no-robustness")
    by_f1 = towline("test", "m", *common, "--metric", "f1")
    compared = towline("compare", "m", "m", *common, "--metric", f"{place}/mine.py:rows_lost:lower", "--json")
    refused = towline("optimize", "m", *common[:4], "--metric", f"{place}/mine.py:rows_lost:lower")

    assert "  rows_lost       0\n" in told.out
    assert "  roc_auc         " in told.out
    assert "  robustness      by f1: clean 1, noise " in by_f1.out
    assert "f1_noise" not in by_f1.out
    assert compared.json()["metric"]["better"] == "lower"
    assert refused.code == 2
    assert "Say it in the unit of rows_lost: --max-drop 0.01" in refused.err


@pytest.mark.parametrize("word", ["lots", "-1", "nan", "1e999", "0.5kg"])
def test_a_drop_that_is_no_amount_is_a_matter_of_usage(place: Path, towline: Run, word: str):
    told = towline("optimize", "m", "--data", str(place / "data.npz"), "--home", str(place / "home"), "--max-drop", word)

    assert told.code == 2
    assert f"'{word}' is not written like 0.5pt" in told.err


def test_a_gate_that_says_no_is_exit_code_3_in_both(place: Path, towline: Run):
    common = ("--data", str(place / "data.npz"), "--home", str(place / "home"), "--gates", str(place / "gates.toml"), "--no-speed")

    tested = towline("test", "m", *common, "--no-robustness")
    compared = towline("compare", "m", "m", *common, "--json")

    assert (tested.code, compared.code) == (3, 3)
    assert "FAIL  accuracy is 1, wanted > 1" in tested.out
    assert compared.json()["passed"] is False


def test_data_that_does_not_fit_is_a_matter_of_usage(place: Path, towline: Run):
    told = towline("test", "m", "--data", str(place / "gates.toml"), "--home", str(place / "home"))

    assert told.code == 2
    assert "none of .npz" in told.err


def test_a_data_set_is_answered_into_a_file(place: Path, towline: Run):
    common = ("predict", "m", "--data", str(place / "data.npz"), "--home", str(place / "home"))

    told = towline(*common, "--out", str(place / "o.csv"))
    as_json = towline(*common, "-o", str(place / "o.jsonl"), "--limit", "7", "--json")

    assert told.code == 0
    assert "m:1 answered 40 rows." in told.err
    assert len((place / "o.csv").read_text().splitlines()) == 41
    assert as_json.json()["written"]["rows"] == 7
    assert towline(*common).code == 2
    assert towline(*common, "-o", str(place / "p.csv"), "-i", "x.npy").code == 2
    assert towline("predict", "http://127.0.0.1:9", "--data", str(place), "-o", str(place / "p.csv")).code == 2
    assert towline("predict", "m", "--limit", "3", "-i", "x.npy").code == 2


# A version beside itself differs by nothing: only its latencies are drawn. They are measured for one of the languages.
@pytest.mark.parametrize(
    ("language", "said", "flags", "drawn"), [("en", "Gates", (), (2, 1)), ("zh", "门槛", ("--no-speed",), (1, 0))], ids=["en", "zh"]
)
def test_what_was_found_is_a_page_too(place: Path, towline: Run, language: str, said: str, flags: tuple[str, ...], drawn: tuple[int, int]):
    data = ("--data", str(place / "data.npz"), "--home", str(place / "home"), "--gates", str(place / "gates.toml"))
    common = (*data, "--lang", language, *flags)

    tested = towline("test", "m", *common, "--html", str(place / "test.html"), "--no-robustness")
    compared = towline("compare", "m", "m", *common, "--html", str(place / "compare.html"))

    assert (tested.code, compared.code) == (3, 3)
    for name, drawings in zip(("test.html", "compare.html"), drawn, strict=True):
        page = (place / name).read_text()
        assert said in page
        assert page.count("<svg") >= drawings
        assert page.endswith("</html>\n")
    assert "The page is in" in tested.err


def test_a_page_that_cannot_be_written_is_known_before_the_measuring(place: Path, towline: Run):
    told = towline("test", "nobody", "--data", "none.npz", "--html", str(place / "no" / "page.html"))

    assert told.code == 2
    assert "there is no folder" in told.err
