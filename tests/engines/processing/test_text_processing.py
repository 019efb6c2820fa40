"""Texts become the token ids of their tokenizer, and no text's answer depends on those beside it unless that was declared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from processed import Processed, load

from towline.core.errors import EngineError, ImportRefused, Kind, VersionError
from towline.testing import tiny_models

WORDS = ("[PAD]", "[UNK]", "time", "year", "life", "hand", "part", "work", "week", "case", "good", "last", "long", "high", "next", "tree")
WORDS += ("door", "blue")
TEXT = '[[before]]\nstep = "text"\ntokenizer = "tokenizer.json"\n'


def tokenizer(folder: Path, **more: object) -> None:
    """A tokenizer of whole words."""
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": {word: place for place, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
        **dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder")),
        **more,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))


def bag(folder: Path, declared: str = TEXT, *, masked: bool = True, **more: object) -> Processed:
    tokenizer(folder, **more)
    return load(folder, tiny_models.bag_of_tokens(masked=masked), declared)


def ids(folder: Path, declared: str = TEXT, **more: object) -> Processed:
    """The graph gives the ids back."""
    tokenizer(folder, **more)
    return load(folder, tiny_models.identity("int64", ("N", "T")), declared)


def test_words_become_their_places_in_the_vocabulary(tmp_path: Path) -> None:
    assert ids(tmp_path).run(text=["time blue nowhere"])["y"].tolist() == [[2, 17, 1]]


def test_the_mask_tells_padding_and_the_answer_does_not_see_it(tmp_path: Path) -> None:
    graph = bag(tmp_path)
    rows = ["time", "time year life", "hand part work week case good last long high next"]

    together = graph.run(text=rows)["logits"]

    for row, text in enumerate(rows):
        np.testing.assert_allclose(together[row], graph.run(text=[text])["logits"][0], rtol=1e-6)


def test_without_a_mask_texts_of_unlike_length_run_apart(tmp_path: Path) -> None:
    """A graph to which padding is a token like any other: padded to the longest of the batch, its answers would change."""
    for name in ("apart", "together"):
        (tmp_path / name).mkdir()
    apart = bag(tmp_path / "apart", masked=False)
    together = bag(tmp_path / "together", f'{TEXT}padding = "longest"\n', masked=False)
    alone = apart.run(text=["time"])["logits"][0]

    assert np.array_equal(apart.run(text=["time", "year life hand"])["logits"][0], alone)
    assert not np.allclose(together.run(text=["time", "year life hand"])["logits"][0], alone)


def test_each_text_is_padded_by_its_own_length_to_the_next_multiple(tmp_path: Path) -> None:
    graph = ids(tmp_path, f"{TEXT}pad_to_multiple_of = 4\n")

    assert graph.run(text=["time"])["y"].tolist() == [[2, 0, 0, 0]]
    assert graph.run(text=["time year life hand part"])["y"].shape == (1, 8)


def test_what_is_longer_than_max_length_is_cut(tmp_path: Path) -> None:
    assert ids(tmp_path, f"{TEXT}max_length = 2\n").run(text=["time year life"])["y"].tolist() == [[2, 3]]


def test_a_graph_of_fixed_length_is_always_padded_to_it(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    fixed = load(tmp_path, tiny_models.identity("int64", ("N", 4)), TEXT)

    assert fixed.run(text=["time", "time year life hand part"])["y"].tolist() == [[2, 0, 0, 0], [2, 3, 4, 5]]


def test_the_tokenizers_own_padding_direction_and_id_are_kept(tmp_path: Path) -> None:
    padding = {
        "strategy": "BatchLongest",
        "direction": "Left",
        "pad_to_multiple_of": None,
        "pad_id": 9,
        "pad_type_id": 0,
        "pad_token": "week",
    }
    graph = ids(tmp_path, f"{TEXT}pad_to_multiple_of = 3\n", padding=padding)

    assert graph.run(text=["time"])["y"].tolist() == [[9, 9, 2]]


@pytest.mark.parametrize(
    ("raw", "code", "said"),
    [
        (b"\xff\xfe", "BAD_TEXT", "text[1] is not UTF-8 text: byte 0 is not."),
        (b"", "BAD_TEXT", "text[1] holds no token."),
        (b"time " * 20_000, "TEXT_TOO_LONG", "text[1] has 100000 bytes; at most 65536 are taken."),
    ],
)
def test_a_text_that_cannot_be_read_is_named_by_its_row(tmp_path: Path, raw: bytes, code: str, said: str) -> None:
    with pytest.raises(EngineError) as caught:
        bag(tmp_path).run(text=["time", raw])

    assert (caught.value.code, caught.value.message) == (code, said)
    assert caught.value.kind is (Kind.TOO_LARGE if code == "TEXT_TOO_LONG" else Kind.INVALID)


def test_a_file_that_is_no_tokenizer_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text('{"model": {}}')

    with pytest.raises(VersionError, match="tokenizer cannot be loaded"):
        load(tmp_path, tiny_models.bag_of_tokens(), TEXT)


def test_a_tokenizer_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"tokenizer\.json: it cannot be read"):
        load(tmp_path, tiny_models.bag_of_tokens(), TEXT)


def test_vectors_per_token_are_pooled_without_the_padding(tmp_path: Path) -> None:
    tokenizer(tmp_path)
    declared = f'{TEXT}pad_to_multiple_of = 8\n[[after]]\nstep = "pool"\n[[after]]\nstep = "unit_length"\n'
    encoder = load(tmp_path, tiny_models.token_vectors(), declared)
    vectors = encoder.run("tensors", input_ids=np.array([[2, 3]]), attention_mask=np.ones((1, 2), np.int64))["vectors"][0]

    got = encoder.run(text=["time year"])["embedding"][0]

    expected = vectors.mean(axis=0)
    np.testing.assert_allclose(got, expected / np.linalg.norm(expected), rtol=1e-5)
