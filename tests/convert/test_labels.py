"""Labels: one per line or a JSON list, text and nothing else."""

from __future__ import annotations

import os

import pytest

from towline.convert.labels import MAX_LABELS_BYTES, encode_labels, read_labels
from towline.core.errors import ImportRefused


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        (b"cat\ndog\n", ("cat", "dog")),
        (b"cat\r\ndog", ("cat", "dog")),
        (b"\xef\xbb\xbfcat\n", ("cat",)),
        ("猫\n狗\n".encode(), ("猫", "狗")),
        (b'["cat", "dog"]', ("cat", "dog")),
        (b"cat\n\ndog\n", ("cat", "", "dog")),
    ],
)
def test_labels_are_read_in_order(tmp_path, content, labels):
    path = tmp_path / "labels"
    path.write_bytes(content)

    assert read_labels(path) == labels
    path.write_bytes(encode_labels(labels))
    assert read_labels(path) == labels


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"[]", "it is empty"),
        (b"cat\n\xff\n", "byte 4 is not UTF-8"),
        (b"cat\ndog\x1b[31m\n", r"label 2, 'dog\x1b[31m'"),
        (b'["cat", 1]', "something else than strings"),
        (b'["cat"', "no JSON list"),
        (b'["a\\nb"]', r"label 1, 'a\nb'"),
        (b"[" * 100_000, "no JSON list"),
        (b"x" * 2000, "longer than 1024"),
    ],
)
def test_what_is_no_label_is_refused_by_its_number(tmp_path, content, words):
    path = tmp_path / "labels"
    path.write_bytes(content)
    with pytest.raises(ImportRefused) as refusal:
        read_labels(path)

    assert words in refusal.value.message
    assert refusal.value.message.isprintable()


def test_a_pipe_or_a_huge_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(MAX_LABELS_BYTES + 1)
    for name, words in (("pipe", "no plain file"), (".", "no plain file"), ("huge", "at most"), ("absent", "No such file")):
        with pytest.raises(ImportRefused, match=words):
            read_labels(tmp_path / name)
