"""The reports of test, compare and optimize, of real runs on digits, opened in Chromium: everybody can see, hear and print them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import node_clients
import numpy as np
import onnx
import pytest
from PIL import Image

import towline
from towline.app.demo.digits import read_digits
from towline.app.judging.compare import compare
from towline.app.judging.judge import measure_version
from towline.app.judging.pages import page_of_comparison, page_of_search, page_of_test
from towline.app.optimizing import optimize as optimizing
from towline.app.optimizing import searching, workshop
from towline.app.optimizing.optimize import Limits, Optimized, optimize
from towline.app.optimizing.searching import Search
from towline.cli.main import main
from towline.optimize.base import Chain
from towline.optimize.quantize import DynamicInt8, Int8
from towline.verify.pace import pace, paces

pytestmark = pytest.mark.services
DEMO = Path(towline.__file__).parent / "app" / "demo" / "data"
LANGUAGES = ("en", "zh")
# How many pictures there are at least.
DRAWINGS = {"test": 5, "compare": 12, "optimize": 6, "show": 0}


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Timed for half a second each: what the clock says is not looked at here."""
    with pytest.MonkeyPatch.context() as patch:
        for timing in (pace, paces):
            patch.setitem(timing.__kwdefaults__, "budget_s", 0.5)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, quick: None) -> Path:
    """Each report in both languages, of one run."""
    folder = tmp_path_factory.mktemp("pages")
    home = folder / "home"
    for model in (DEMO / "digits.onnx", spoilt(DEMO / "digits.onnx", folder / "spoilt.onnx")):
        towline.import_model(model, name="digits", labels=DEMO / "labels.txt", home=home)
    digits = read_digits((DEMO / "digits_200.json").read_bytes())
    images = np.array([one.instance() for one in digits], np.float32)
    # Some wrong on purpose: where all is right there is little to show.
    labels = np.array([(one.label + (place % 20 == 0)) % 10 for place, one in enumerate(digits)])
    np.savez(folder / "data.npz", image=images, labels=labels)
    found = searched(folder / "data.npz", home)
    tested = measure_version("digits:1", folder / "data.npz", home=home)
    compared = compare("digits:1", "digits:2", folder / "data.npz", home=home)
    for language in LANGUAGES:
        (folder / f"test-{language}.html").write_text(page_of_test(tested, language))
        (folder / f"compare-{language}.html").write_text(page_of_comparison(compared, language))
        (folder / f"optimize-{language}.html").write_text(page_of_search(found, language))
    assert main(["show", "digits:1", "--home", str(home), "--html", str(folder / "show-en.html")]) == 0
    return folder


def spoilt(model: Path, into: Path) -> Path:
    """The same with noise on its weights: it answers some digits otherwise."""
    graph = onnx.load(model)
    rng = np.random.default_rng(0)
    for one in graph.graph.initializer:
        weights = onnx.numpy_helper.to_array(one)
        if weights.dtype == np.float32 and weights.ndim > 1:
            noisy = weights + rng.normal(0, 0.4 * weights.std(), weights.shape).astype(np.float32)
            one.CopyFrom(onnx.numpy_helper.from_array(noisy, one.name))
    onnx.save(graph, into)
    return into


def searched(data: Path, home: Path) -> Optimized:
    """A real search; only what the clock says is left out of its decisions, so that all parts of its page are there on any machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "first_chains", lambda situation: (Chain((DynamicInt8(),)), Chain((Int8(),))))
        patch.setattr(searching, "wants_sensitivity", lambda tried: True)
        patch.setattr(Search, "_explored", lambda search: iter(()))
        for place in (optimizing, workshop):
            patch.setattr(place, "chosen", lambda tried: next((one for one in tried[::-1] if one.fits and one.tried.name == "int8"), None))
        found = optimize("digits:1", data, limits=Limits(max_drop=0.05), home=home)
    assert found.result is not None
    # As a pass that trains tells of itself; training has its own tests.
    taught = replace(found.tried[0], curves={"loss": (2.0, 1.0, 0.5), "validation accuracy": (0.5, 0.8, 0.9)}, notes=("A note.",))
    return replace(found, tried=(taught, *found.tried[1:]))


@pytest.fixture(scope="module")
def seen(folder: Path) -> Any:
    """What the browser told of each page, by its name."""
    node_clients.install()
    files = sorted(folder.glob("*.html"))
    (folder / "seen").mkdir()
    told = node_clients.run("browse_pages.mjs", str(folder / "seen"), *map(str, files), timeout_s=300)
    return dict(zip([one.stem for one in files], told, strict=True))


def test_axe_finds_nothing_wrong_on_a_screen_in_the_dark_and_in_print(seen: Any) -> None:
    assert {name.partition("-")[0] for name in seen} == set(DRAWINGS)
    for name, page in seen.items():
        for way, shown in page["ways"].items():
            assert shown["violations"] == [], (name, way)
            assert "color-contrast" in shown["rules"], (name, way)
        assert {"document-title", "html-has-lang"} <= set(page["ways"]["light"]["rules"]), name
        assert list(page["ways"]) == (["light"] if name.endswith("-zh") else ["light", "dark", "print"])


def test_the_pages_fetch_nothing_and_the_browser_has_nothing_to_complain_of(seen: Any) -> None:
    for name, page in seen.items():
        assert page["asked"] == [], name
        assert page["said"] == [], name


def test_every_picture_is_drawn_and_has_more_than_one_colour(seen: Any) -> None:
    for name, page in seen.items():
        for way, shown in page["ways"].items():
            assert len(shown["pictures"]) >= DRAWINGS[name.partition("-")[0]], (name, way)
            whole = Image.open(shown["file"]).convert("RGB")
            for picture in shown["pictures"]:
                assert min(picture["width"], picture["height"]) >= 8, (name, way, picture)
                assert has_colours(whole, picture), (name, way, picture)


def test_a_dark_screen_gets_a_dark_page_and_paper_a_light_one(seen: Any) -> None:
    papers = {way: Image.open(shown["file"]).convert("L").getpixel((2, 2)) for way, shown in seen["optimize-en"]["ways"].items()}

    assert papers["dark"] < 64 < 192 < min(papers["light"], papers["print"])


def test_a_phone_shows_a_page_without_scrolling_sideways_and_paper_takes_it_whole(seen: Any, folder: Path) -> None:
    for name, page in seen.items():
        assert page["too_wide"] <= 0, name
        assert page["small"][0] == 0, (name, "a table that scrolls must be reached by keyboard")
        assert (folder / "seen" / f"{name}.pdf").read_bytes().startswith(b"%PDF"), name
        if not name.endswith("-zh"):
            assert page["ways"]["print"]["cut"] == [], name
    assert seen["compare-en"]["small"] == [0, 1], "its figures scroll on a phone"


def test_rows_that_were_lost_show_their_picture_and_both_languages_draw_the_same(seen: Any) -> None:
    kinds = {name: [picture["kind"] for picture in page["ways"]["light"]["pictures"]] for name, page in seen.items()}

    assert kinds["compare-en"].count("IMG") == 10
    assert all(kinds[f"{name}-en"] == kinds[f"{name}-zh"] for name in ("test", "compare", "optimize"))
    assert seen["optimize-en"]["title"] == "towline optimisation digits:1"
    assert seen["optimize-zh"]["title"] == "towline 优化 digits:1"


def has_colours(whole: Image.Image, picture: dict[str, float]) -> bool:
    """Whether the part of a screenshot where the picture is has more than one."""
    left, top = round(picture["x"]), round(picture["y"])
    part = whole.crop((left, top, left + round(picture["width"]), top + round(picture["height"])))
    return any(low != high for low, high in part.getextrema())
