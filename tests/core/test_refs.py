"""How versions are named."""

from __future__ import annotations

import pytest

from towline.core.errors import InvalidRequest
from towline.core.refs import Ref, check_alias, check_model_name, clip, parse_ref


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("digits", Ref("digits")),
        ("digits:3", Ref("digits", number=3)),
        ("digits@champion", Ref("digits", alias="champion")),
        ("sha256:1b77aa00", Ref(digest="sha256:1b77aa00")),
        ("a.b_c-9:12", Ref("a.b_c-9", number=12)),
    ],
)
def test_a_ref_reads_as_it_prints(text: str, ref: Ref) -> None:
    assert parse_ref(text) == ref
    assert str(ref) == text


@pytest.mark.parametrize("name", ["", ".", "..", "a..b", "../x", "a/b", "-a", "_a", "a b", "a\n", "é", "a" * 129, "a:b", "a@b", "a\0"])
def test_what_could_be_a_path_or_break_a_line_names_no_model(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name a model"):
        check_model_name(name)


@pytest.mark.parametrize(
    "text", ["digits:0", "digits:-1", "digits:01", "digits:abc", "digits:", "digits:1.0", "digits:" + "9" * 19, "digits: 1"]
)
def test_what_is_no_version_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a version of digits"):
        parse_ref(text)


@pytest.mark.parametrize("alias", ["", "3", "a b", "a/b", "-x", "x" * 65, "a@b"])
def test_an_alias_cannot_be_read_as_anything_else(alias: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot name an alias"):
        check_alias(alias)


def test_what_came_from_outside_is_repeated_only_in_part() -> None:
    assert clip("x" * 64) == "x" * 64
    assert clip("x" * 65) == "x" * 63 + "…"
    with pytest.raises(InvalidRequest) as refusal:
        check_model_name("/" * 10_000)
    assert len(str(refusal.value)) < 300
