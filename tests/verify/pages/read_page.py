"""Read a page as strictly as it was written, for the tests of this folder."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

_VOID = ("meta", "img")


class ReadPage(HTMLParser):
    """Asserts that every tag is closed in order, that each drawing is XML, and that nothing is fetched or run."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.markup = markup
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(markup)
        assert self.open == []
        self.drawings = [ElementTree.fromstring(one) for one in re.findall(r"<svg.*?</svg>", markup, re.DOTALL)]
        assert not re.search(r"<script|<link|@import|url\(|<iframe|<object", markup)
        assert all(one["src"].startswith("data:image/png;base64,") for one in self.all("img"))
        assert set(re.findall(r"https?:[^\s\"'<]+", markup)) <= {"http://www.w3.org/2000/svg"}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [{name: value or "" for name, value in attributes.items()} for seen, attributes in self.seen if seen == tag]

    def drawing(self, title: str) -> ElementTree.Element:
        return next(one for one in self.drawings if one.get("aria-label") == title)

    def told(self, title: str) -> list[str]:
        """What a drawing says when its parts are pointed at."""
        return [str(one.text) for one in self.drawing(title).iter("{http://www.w3.org/2000/svg}title")][1:]
