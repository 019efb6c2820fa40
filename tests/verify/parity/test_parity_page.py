"""The page of a version: one file, nothing fetched, everything escaped."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np

from towline.core.manifest import Signature, TensorSpec
from towline.verify.parity.compare import judge, tolerance_for
from towline.verify.parity.page import Page, page
from towline.verify.parity.plots import histogram, scatter

EVIL = '<script src="http://evil.example/x.js">alert(1)</script>'
ANSWER = np.random.default_rng(0).normal(0, 1, (4, 3)).astype(np.float32)


def evidence(name: str) -> dict:
    limits = tolerance_for(Signature((), (TensorSpec(name, "float32", None),)))
    return json.loads(json.dumps(judge([({}, {name: ANSWER}, {name: ANSWER + np.float32(1e-6)})], limits).as_json()))


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(version: Page) -> Tags:
    tags = Tags()
    tags.feed(page(version))
    assert tags.open == []
    return tags


def test_it_shows_figures_plots_operators_and_the_routes_that_were_not_taken():
    routes = [
        {"route": "dynamo", "because": "it has no edges", "parity": {}},
        {"route": "torchscript", "because": "", "parity": {"serving_default": evidence("y")}},
    ]
    tags = read(
        Page(
            "towline show net:1",
            [("digest", "sha256:1b77")],
            lineage=[("from", "state_dict")],
            routes=routes,
            notes=["It is a toy."],
            costs="12 FLOPs",
            operators=[("conv1", "Conv", "1 × 8", "216", "12")],
        )
    )

    kinds = [tag for tag, _ in tags.seen]
    assert kinds.count("svg") == 2
    assert kinds.count("circle") == 12
    for said in (
        "Not taken: it has no edges",
        "Signature serving_default, requests compared: 1.",
        "state_dict",
        "It is a toy.",
        "conv1",
        "12 FLOPs",
    ):
        assert said in tags.text


def test_whatever_a_model_calls_itself_nothing_runs_and_nothing_is_fetched():
    tags = read(
        Page(
            EVIL,
            [(EVIL, EVIL)],
            lineage=[(EVIL, EVIL)],
            routes=[{"route": EVIL, "because": EVIL, "parity": {EVIL: evidence(EVIL)}}],
            notes=[EVIL],
            costs=EVIL,
            operators=[(EVIL, EVIL, EVIL, EVIL, EVIL)],
        )
    )

    assert not {"script", "link", "img", "iframe", "a"} & {tag for tag, _ in tags.seen}
    assert not {"src", "href", "onload"} & {name for _, attributes in tags.seen for name in attributes}
    (guard,) = (attributes for _, attributes in tags.seen if attributes.get("http-equiv") == "Content-Security-Policy")
    assert guard["content"].startswith("default-src 'none'")


def test_plots_are_well_formed_and_nothing_gives_none():
    for drawn in (scatter(EVIL, [(0.0, 0.5), (1.0, 1.0)]), scatter("one", [(2.0, 2.0)]), histogram(EVIL, (5, 1, *([0] * 11)))):
        assert ElementTree.fromstring(drawn).tag.endswith("svg")
    assert scatter("", []) == histogram("", (0, 0)) == ""
