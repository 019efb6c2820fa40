"""multipart/form-data: every part as it was sent, and bounded work for whatever claims to be a form."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata

from towline.core.errors import InvalidRequest
from towline.serve.codecs import multipart
from towline.serve.codecs.multipart import Part

NAMES = st.text(st.characters(codec="utf-8", exclude_characters='"\r\n\\\0', exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)


def part(head: str, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + head.encode() + b"\r\n\r\n" + content + b"\r\n"


GOOD = part('Content-Disposition: form-data; name="a"')
END = b"--b--\r\n"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.binary(max_size=300), st.booleans()), min_size=1, max_size=10))
def test_what_a_client_sends_is_what_is_read(parts: list[tuple[str, bytes, bool]]) -> None:
    fields = [(name, ("f.bin", content, "image/PNG") if is_file else content) for name, content, is_file in parts]
    body, content_type = encode_multipart_formdata(fields)  # type: ignore[arg-type]

    found = multipart.parse(body, multipart.boundary_of(content_type))

    assert [(one.name, one.content, one.is_file) for one in found] == parts
    assert {one.media for one in found if one.is_file} <= {"image/png"}


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                b"--b",
                b"--b--",
                b"\r\n",
                b"\r",
                b"\n",
                b"Content-Disposition: form-data; name=",
                b'"a"',
                b"; filename=x",
                b": ",
                b"-",
                b"\0",
                b" ",
            ]
        )
        | st.binary(max_size=5),
        max_size=40,
    ).map(b"".join)
)
def test_no_body_does_more_than_be_read_or_refused(body: bytes) -> None:
    try:
        assert all(isinstance(one, Part) for one in multipart.parse(body, b"b"))
    except InvalidRequest as error:
        said = error.code
    else:
        said = "BAD_MULTIPART"
    assert said in ("BAD_MULTIPART", "TOO_MANY_PARTS")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_form_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(InvalidRequest, match="multipart"):
        multipart.parse((GOOD + END)[:-4][:-cut], b"b")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "BAD_MULTIPART"),
        (b"{}", "BAD_MULTIPART"),
        (GOOD.replace(b"--b", b"--c") + END, "BAD_MULTIPART"),
        (part("X: y") + END, "BAD_MULTIPART"),
        (part("Content-Disposition: form-data") + END, "BAD_MULTIPART"),
        (part('Content-Disposition: attachment; name="a"') + END, "BAD_MULTIPART"),
        (part('Content-Disposition: form-data; name="a"\r\nContent-Disposition: form-data; name="b"') + END, "BAD_MULTIPART"),
        (part('Content-Disposition: form-data; name="a"\r\nContent-Transfer-Encoding: base64') + END, "BAD_MULTIPART"),
        (part("\r\n".join(f"H{n}: v" for n in range(10_000))) + END, "BAD_MULTIPART"),
        (part(f'Content-Disposition: form-data; name="{"n" * 5000}"') + END, "BAD_MULTIPART"),
        (part(f'Content-Disposition: form-data; name="{"n" * 129}"') + END, "BAD_MULTIPART"),
        (part('Content-Disposition: form-data; name="a"; filename="f"') * 17 + END, "TOO_MANY_PARTS"),
        (GOOD * 1001 + END, "TOO_MANY_PARTS"),
        (GOOD * 5000 + END, "TOO_MANY_PARTS"),
        (part('Content-Disposition: form-data; name="a"', bytes(65_537)) + END, "FIELD_TOO_LARGE"),
    ],
    ids=[
        "nothing", "JSON", "another boundary", "no disposition", "no name", "attachment", "two dispositions", "base64", "10,000 headers",
        "a long header", "a long name", "17 files", "1,001 fields", "5,000 parts", "a long field",
    ],
)  # fmt: skip
def test_a_bad_form_is_refused(body: bytes, code: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        multipart.parse(body, b"b")

    assert raised.value.code == code


@pytest.mark.parametrize("value", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 71])
def test_a_boundary_of_the_wrong_length_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 70"):
        multipart.boundary_of(value)


def test_a_refused_form_writes_no_line_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for _ in range(3):
        with pytest.raises(InvalidRequest):
            multipart.parse(b"--b\r\nbad header\r\n\r\n\r\n--b--", b"b")

    assert caplog.records == []


# Read byte by byte these would take seconds; that they are refused for what is said here shows that the parser never saw them.
HEAVY = {
    "a million almost boundaries": (GOOD[:-2] + b"\r\n--b?" * 1_000_000 + b"\r\n" + END, "more than"),
    "a line of blanks behind a boundary": (GOOD + b"--b" + b" " * 8_000_000 + b"\r\n" + END, "followed by something else"),
    "a long line before the first boundary": (b" " * 8_000_000 + GOOD + END, "does not begin"),
    "a header of blanks": (b"--b\r\nX:" + b" " * 8_000_000 + b"\r\n\r\nx\r\n" + END, "headers"),
    "a disposition of semicolons": (part("Content-Disposition: form-data" + ";" * 4000) * 16 + END, "no 'Content-Disposition"),
}


@pytest.mark.parametrize("name", HEAVY)
def test_a_form_made_to_be_slow_is_refused_before_it_costs(name: str) -> None:
    body, why = HEAVY[name]
    with pytest.raises(InvalidRequest, match=why):
        multipart.parse(body, b"b")
