"""Read a processing declaration (TOML), and refuse what is wrong in it by line, with the nearest known word."""

from __future__ import annotations

import difflib
import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import msgspec

from towline.convert import wording
from towline.core.errors import ImportRefused
from towline.core.plain_file import read_plain_file
from towline.core.steps import After, Before, Text, kind_of, parse_after, parse_before

MAX_DECLARATION_BYTES = 1 << 20
MAX_STEPS = 64
# A tokenizer with a vocabulary of a million words stays well below.
MAX_FILE_BYTES = 64 << 20
_TABLES = {"before": (Before, parse_before), "after": (After, parse_after)}
_KINDS: dict[str, dict[str, Any]] = {table: {kind_of(kind): kind for kind in get_args(union)} for table, (union, _) in _TABLES.items()}
_HEADER = re.compile(r"\s*\[\[\s*(before|after)\s*\]\]")


@dataclass(frozen=True)
class Declaration:
    """Steps as they were written. `lines` are those of their `[[…]]`, where they came from a file; `folder` holds the files they name."""

    before: tuple[Before, ...]
    after: tuple[After, ...]
    lines: tuple[int, ...] = ()
    folder: Path = Path()

    def digest(self) -> str:
        """`sha256:…` of the steps and of the files they name: what tells one declaration from another."""
        total = hashlib.sha256(msgspec.json.encode((self.before, self.after)))
        for step in self.before:
            if isinstance(step, Text):
                total.update(hashlib.sha256(read_plain_file(self.folder / step.tokenizer, MAX_FILE_BYTES, _no_tokenizer)).digest())
        return "sha256:" + total.hexdigest()


def read_declaration(path: Path) -> Declaration:
    """Raises ImportRefused that names the line."""
    raw = read_plain_file(path, MAX_DECLARATION_BYTES, refused)
    try:
        text = raw.decode("utf-8-sig")
        found = tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise refused(f"byte {error.start} is not UTF-8 text") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise refused(wording.sentence(str(error)) or "it is no TOML") from None
    lines = _lines(text)
    for name in found:
        if name not in _TABLES:
            raise refused(f"there is no table '{wording.name(name)[1:-1]}'{_near(name, _TABLES)}", _line_of(text, name))
    before, after = (_steps(found.get(table, []), table, lines[table], text) for table in _TABLES)
    return Declaration(before, after, (*lines["before"], *lines["after"]), path.parent)


def refused(what: str, line: int = 0) -> ImportRefused:
    where = f"line {line}: " if line else ""
    return ImportRefused(
        f"The processing declaration cannot be used: {where}{what}.",
        code="BAD_PROCESSING",
        field="processing",
        hint="docs/reference/processing.md lists every step and its settings.",
    )


def _no_tokenizer(what: str) -> ImportRefused:
    return refused(f"the tokenizer: {what}")


def _steps(tables: Any, table: str, lines: list[int], text: str) -> tuple[Any, ...]:
    if not isinstance(tables, list) or not all(isinstance(one, dict) for one in tables):
        raise refused(f"'{table}' is no list of tables: begin each step with [[{table}]]", _line_of(text, table))
    if len(tables) > MAX_STEPS:
        raise refused(f"there are {len(tables)} steps in '{table}'; at most {MAX_STEPS} are taken")
    starts = [*lines, *[0] * (len(tables) - len(lines))]
    return tuple(_step(one, table, start, text) for one, start in zip(tables, starts, strict=True))


def _step(given: dict[str, Any], table: str, start: int, text: str) -> Any:
    kind = given.get("step")
    known = _KINDS[table]
    if not isinstance(kind, str):
        raise refused(f'the step does not say what it does: step = "{next(iter(known))}", for one', start)
    if kind not in known:
        other = "after" if table == "before" else "before"
        elsewhere = f"; it belongs in [[{other}]]" if kind in _KINDS[other] else _near(kind, known)
        raise refused(f"there is no step {wording.name(kind)} {table} the graph{elsewhere}", _line_of(text, "step", start))
    settings = [name for name in known[kind].__struct_fields__ if name != "step"]
    for name in given:
        if name != "step" and name not in settings:
            raise refused(f"step '{kind}' has no setting {wording.name(name)}{_near(name, settings)}", _line_of(text, name, start))
    return _parsed(given, _TABLES[table][1], kind, start, text)


def _parsed(given: dict[str, Any], parse: Callable[[Any], Any], kind: str, start: int, text: str) -> Any:
    try:
        return parse(given)
    except msgspec.ValidationError as error:
        said, _, place = str(error).partition(" - at `$.")
        setting = re.split(r"[\[`.]", place)[0]
        what = f"'{setting}' of step '{kind}': {said[0].lower()}{said[1:]}" if setting else f"step '{kind}': {said[0].lower()}{said[1:]}"
        raise refused(
            what.replace("object missing required field", "it needs the setting"), _line_of(text, setting or "step", start)
        ) from None


def _near(word: str, known: Mapping[str, Any] | list[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else f"; there are {', '.join(known)}"


def _lines(text: str) -> dict[str, list[int]]:
    """The line of every `[[before]]` and `[[after]]`, in order. The parser itself tells no lines."""
    found: dict[str, list[int]] = {table: [] for table in _TABLES}
    for number, line in enumerate(text.splitlines(), 1):
        if match := _HEADER.match(line):
            found[match[1]].append(number)
    return found


def _line_of(text: str, key: str, start: int = 1) -> int:
    """The line that sets `key`, from `start` on; `start` itself when none is found."""
    wanted = re.compile(rf"""\s*(\[+\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    for number, line in enumerate(text.splitlines(), 1):
        if number >= start and wanted.match(line):
            return number
        if number > start and _HEADER.match(line):
            break
    return start
