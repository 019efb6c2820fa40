"""The pages of test, compare and show, opened in Node and audited by axe-core: anybody can read them, by ear and by keyboard too."""

from __future__ import annotations

from typing import Any

import node_clients
import numpy as np
import pytest

import towline
from towline.cli.main import main
from towline.testing import tiny_models

pytestmark = pytest.mark.services
PAGES = ("test", "compare", "show")


@pytest.fixture(scope="module", params=["en", "zh"])
def audited(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    node_clients.install()
    folder = tmp_path_factory.mktemp("pages")
    for seed in (0, 1):
        model = tiny_models.write(folder, tiny_models.convolutions(seed=seed), f"{seed}.onnx")
        towline.import_model(model, name="m", home=folder / "home")
    x = np.random.default_rng(0).random((30, 3, 8, 8)).astype(np.float32)
    answer = towline.load("m:1", home=folder / "home").predict(x)
    np.savez(folder / "data.npz", image=x, labels=answer.argmax(axis=1))
    common = ["--data", str(folder / "data.npz"), "--home", str(folder / "home"), "--lang", request.param, "--html"]
    assert main(["test", "m:1", *common, str(folder / "test.html")]) == 0
    assert main(["compare", "m:1", "m:2", *common, str(folder / "compare.html")]) == 0
    assert main(["show", "m:1", "--home", str(folder / "home"), "--html", str(folder / "show.html")]) == 0
    return node_clients.run("audit_page.mjs", *(str(folder / f"{name}.html") for name in PAGES))


def test_axe_finds_nothing_wrong(audited: Any) -> None:
    for name, page in zip(PAGES, audited, strict=True):
        assert page["violations"] == [], name
        assert {"document-title", "html-has-lang", "svg-img-alt"} - set(page["rules"]) <= {"svg-img-alt"}, name


def test_the_drawings_and_the_pictures_of_the_worst_rows_are_there(audited: Any) -> None:
    assert audited[1]["pictures"] > 0
    assert [page["drawings"] >= 2 for page in audited[:2]] == [True, True]
    assert all(page["title"].startswith("towline ") for page in audited)
