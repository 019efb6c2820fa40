"""What a document may ask for, counted with its fragments written out and without writing them out."""

from __future__ import annotations

import pytest
from graphql import parse
from hypothesis import given
from hypothesis import strategies as st

from towline.serve.protocols.graphql.limits import MAX_ALIASES, MAX_DEPTH, MAX_FIELDS, TooMuch, check


def code(document: str) -> str:
    try:
        check(parse(document))
    except TooMuch as error:
        return str((error.extensions or {})["code"])
    return ""


def nested(depth: int) -> str:
    return "{" + "a{" * (depth - 1) + "a" + "}" * depth


def doubling(times: int) -> str:
    fragments = " ".join(f"fragment F{level} on Query {{ ...F{level + 1} ...F{level + 1} }}" for level in range(times))
    return f"{fragments} fragment F{times} on Query {{ a }} {{ ...F0 }}"


def test_a_document_at_its_limits_passes_and_one_beyond_is_refused_by_its_code() -> None:
    assert (code(nested(MAX_DEPTH)), code(nested(MAX_DEPTH + 1))) == ("", "TOO_DEEP")
    aliases = [f"b{index}: a" for index in range(MAX_ALIASES + 1)]
    assert (code(f"{{ {' '.join(aliases[:-1])} }}"), code(f"{{ {' '.join(aliases)} }}")) == ("", "TOO_MANY_ALIASES")
    inner = " ".join(["a"] * MAX_FIELDS)
    assert (code(f"{{ a {{ {inner[2:]} }} }}"), code(f"{{ a {{ {inner} }} }}")) == ("", "TOO_MANY_FIELDS")
    assert code(f"{{ {' '.join(['a'] * 17)} }}") == "TOO_MANY_FIELDS"


@pytest.mark.parametrize("times", [14, 60])
def test_fragments_that_double_one_another_are_counted_in_full_with_one_look_at_each(times: int) -> None:
    # Written out, 60 doublings are 10^18 fields: that this ends shows that they are not.
    assert code(doubling(times)) == "TOO_MANY_FIELDS"


@pytest.mark.parametrize(
    "document",
    [
        "fragment A on Q { ...A } { ...A }",
        "fragment A on Q { a { ...B } } fragment B on Q { ... on Q { ...A } } { ...A }",
    ],
)
def test_fragments_in_a_circle_are_refused(document: str) -> None:
    assert code(document) == "FRAGMENT_CYCLE"


def test_what_a_fragment_hides_counts_wherever_it_is_spread() -> None:
    fragment = "fragment A on Q { " + " ".join(f"b{index}: a" for index in range(9)) + " }"
    assert code(f"{fragment} {{ x {{ ...A }} }}") == ""
    assert code(f"{fragment} {{ x {{ ...A }} y {{ ... on Q {{ ...A }} }} }}") == "TOO_MANY_ALIASES"
    assert code("{ ...Missing }") == ""


def test_introspection_may_look_deeper_than_others() -> None:
    assert code("{ __schema " + nested(MAX_DEPTH + 2) + " }") == ""
    assert code("{ a __schema " + nested(MAX_DEPTH + 2) + " }") == "TOO_DEEP"


@given(st.integers(1, 20))
def test_a_document_is_refused_exactly_when_it_is_too_deep(depth: int) -> None:
    assert (code(nested(depth)) == "TOO_DEEP") == (depth > MAX_DEPTH)
