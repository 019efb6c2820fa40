"""What is printed: plain, aligned, and with nothing from outside that could act on a terminal."""

from __future__ import annotations

import pytest

from towline.cli import exits
from towline.cli.exits import exit_code
from towline.cli.output import printable, size_words, table, width
from towline.core import errors
from towline.core.errors import Kind, TowlineError


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("数字 模型", "数字 模型"),
        ("a　b", "a　b"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x9b1m", "\\x9b1m"),
        ("\x7f\x00", "\\x7f\\x00"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u2028b", "a\\u2028b"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_could_act_on_a_terminal_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_columns_align_also_with_wide_and_combining_characters() -> None:
    lines = table(("NAME", "N"), [("数字", 1), ("é\u0301", 22), ("abc", 3)], right=("N",)).splitlines()

    assert [width(line) for line in lines] == [8, 8, 8, 8]
    assert lines == ["NAME   N", "数字   1", "é\u0301     22", "abc    3"]


def test_a_table_cell_never_breaks_its_row() -> None:
    assert len(table(("A",), [("x\ny",)]).splitlines()) == 2


@pytest.mark.parametrize(("size", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 40, "3.0 TiB")])
def test_sizes_have_their_unit(size: int, words: str) -> None:
    assert size_words(size) == words


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.TowlineError("x"), exits.FAILED),
        (errors.InvalidRequest("x"), exits.FAILED),
        (errors.ImportRefused("x"), exits.FAILED),
        (errors.UsageError("x"), exits.USAGE),
        (TowlineError("x", kind=Kind.GATE), exits.GATE),
        (errors.NotFound("x"), exits.NOT_FOUND),
        (errors.Conflict("x"), exits.CONFLICT),
        (errors.MissingExtra("x"), exits.MISSING_EXTRA),
        (errors.Unreachable("x"), exits.UNREACHABLE),
        (errors.DeadlineExceeded("x"), exits.TIMEOUT),
    ],
)
def test_each_outcome_has_the_exit_code_the_design_gives_it(error: TowlineError, code: int) -> None:
    assert exit_code(error) == code


def test_the_exit_codes_are_those_of_the_design() -> None:
    documented = (exits.OK, exits.FAILED, exits.USAGE, exits.GATE, exits.NOT_FOUND, exits.CONFLICT, exits.MISSING_EXTRA)

    assert (*documented, exits.UNREACHABLE, exits.TIMEOUT, exits.INTERRUPTED) == (0, 1, 2, 3, 4, 5, 6, 7, 8, 130)
