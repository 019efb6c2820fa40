"""A declaration that cannot work is refused by its line, with the nearest known word, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from towline.convert.declaration import Declaration, read_declaration
from towline.convert.presets import preset
from towline.convert.processing import prepare
from towline.core.errors import ImportRefused, VersionError
from towline.core.manifest import Processing, Signature, Step, TensorSpec
from towline.core.steps import read_steps

PICTURES = Signature((TensorSpec("x", "float32", ("N", 3, 224, 224)),), (TensorSpec("y", "float32", ("N", 1000)),))
SOUNDS = Signature((TensorSpec("x", "float32", ("N", "T")),), (TensorSpec("y", "float32", ("N", 4)),))
TABLE = Signature((TensorSpec("x", "float32", ("N", 4)),), (TensorSpec("y", "float32", ("N", 1)),))
TOKENS = Signature(
    (TensorSpec("input_ids", "int64", ("N", "T")), TensorSpec("attention_mask", "int64", ("N", "T"))),
    (TensorSpec("hidden", "float32", ("N", "T", 8)),),
)
CROPPED = '[[before]]\nstep = "image"\n\n[[before]]\nstep = "crop"\nwidth = 224\nheight = 224\n'


def refusal(folder: Path, text: str | bytes, graph: Signature = PICTURES, labels: tuple[str, ...] | None = None) -> str:
    place = folder / "processing.toml"
    place.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ImportRefused) as caught:
        prepare(read_declaration(place), graph, labels)
    assert caught.value.code == "BAD_PROCESSING"
    assert str(folder) not in caught.value.message
    return caught.value.message.removeprefix("The processing declaration cannot be used: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it declares no step."),
        ("before = 3", "line 1: 'before' is no list of tables: begin each step with [[before]]."),
        ("[[befor]]\nstep = 'image'", "line 1: there is no table 'befor'; did you mean 'before'?."),
        ("[[before]]\nwidth = 3", 'line 1: the step does not say what it does: step = "image", for one.'),
        ("[[before]]\n\nstep = 'imag'", "line 3: there is no step 'imag' before the graph; did you mean 'image'?."),
        ("[[before]]\nstep = 'softmax'", "line 2: there is no step 'softmax' before the graph; it belongs in [[after]]."),
        (CROPPED + "depth = 3", "line 8: step 'crop' has no setting 'depth'; did you mean 'width'?."),
        (CROPPED.replace("width = 224", "width = 0"), "line 6: 'width' of step 'crop': expected `int` >= 1."),
        (CROPPED.replace("width = 224\n", ""), "line 5: step 'crop': it needs the setting `width`."),
        (CROPPED.replace("224", "299"), "line 1: the steps make [N, 3, 299, 299] or [N, 299, 299, 3], but input 'x' of the graph takes "),
        ("[[before]]\nstep = 'resize'\nshorter = 3", "line 1: 'resize' has nothing to work on: begin with image, audio, text or tabular."),
        (CROPPED + "[[before]]\nstep = 'mel'", "line 8: 'mel' cannot follow 'image'; resize, crop, pad, normalise, layout can."),
        (CROPPED + "[[before]]\nstep = 'resize'", "line 8: 'resize' takes shorter, or longer, or width and height."),
        (CROPPED + "[[before]]\nstep = 'normalise'\nmean = [1, 2]", "line 8: 'normalise' has 2 values in mean; expected 1 or 3."),
        (CROPPED + "[[before]]\nstep = 'normalise'\nstd = [0]", "line 10: 'std' of step 'normalise': expected `float` > 0.0."),
        (CROPPED + "[[before]]\nstep = 'layout'\norder = 'NHWC'", "line 8: the steps make [N, 224, 224, 3], but input 'x'"),
        (
            CROPPED + "[[before]]\nstep = 'image'\nname = 'other'",
            "line 8: the graph has no input left for 'image'.",
        ),
        (
            CROPPED.replace("'image'", "'image'\ninto = 'z'").replace('"image"', '"image"\ninto = "z"'),
            "line 1: the graph has no free input 'z' (there is 'x').",
        ),
        (
            CROPPED + "[[after]]\nstep = 'top_k'\n[[after]]\nstep = 'softmax'",
            "line 10: 'softmax' stands twice, or in the wrong place; the order is",
        ),
        (CROPPED + "[[after]]\nstep = 'labels'", "line 8: 'labels' needs 'top_k' before it, which says which labels to give."),
        (
            CROPPED + "[[after]]\nstep = 'top_k'\n[[after]]\nstep = 'labels'",
            "line 10: 'labels' needs the version's labels: give --labels FILE.",
        ),
        (CROPPED + "[[after]]\nstep = 'softmax'\noutput = 'z'", "line 8: name the output to work on: output = … (the graph has 'y')."),
        (CROPPED + "[[after]]\nstep = 'pool'", "line 8: output 'y' of the graph is float32 [N, 1000]; 'pool' needs [N, tokens, width]."),
        (
            CROPPED + "[[after]]\nstep = 'segment'",
            "line 8: output 'y' of the graph is float32 [N, 1000]; 'segment' needs [N, classes, height,",
        ),
        (
            CROPPED + "[[after]]\nstep = 'segment'\n[[after]]\nstep = 'top_k'",
            "line 8: 'segment' is a whole answer: no other step goes with it.",
        ),
        (b"\xff\xfe", "byte 0 is not UTF-8 text."),
        ("[[before]]\nstep = ", "Invalid value (at end of document)."),
    ],
)
def test_a_wrong_declaration_is_refused_by_its_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


@pytest.mark.parametrize(
    ("graph", "text", "said"),
    [
        (SOUNDS, "[[before]]\nstep = 'audio'\n[[before]]\nstep = 'mel'", "line 3: 'mel' needs 'resample' before it"),
        (
            SOUNDS,
            "[[before]]\nstep = 'audio'\n[[before]]\nstep = 'resample'\nrate = 8000\n[[before]]\nstep = 'mel'\nmax_frequency = 5000",
            "line 6: 'mel' goes from 0 to 5000 Hz; expected rising, up to 4000 Hz.",
        ),
        (
            TABLE,
            "[[before]]\nstep = 'tabular'\ncolumns = ['a']",
            "line 1: the columns make [N, 1], but input 'x' of the graph takes float32 [N, 4].",
        ),
        (
            TABLE,
            "[[before]]\nstep = 'tabular'\ncolumns = ['a']\n[[before]]\nstep = 'fill'\ncolumn = 'b'\nnumber = 1",
            "line 4: 'fill' names 'b', which is no column; there are a.",
        ),
        (
            TABLE,
            "[[before]]\nstep = 'tabular'\ncolumns = ['a']\n[[before]]\nstep = 'fill'\ncolumn = 'a'\nword = 'x'",
            "line 4: column 'a' is filled with a number.",
        ),
        (
            TABLE,
            "[[before]]\nstep = 'tabular'\ncolumns = ['a']\n[[before]]\nstep = 'standardise'\ncolumns = ['a']\nmean = [1, 2]\nstd = [1]",
            "line 4: 'standardise' has 1 columns, 2 means and 1 stds.",
        ),
        (
            TABLE,
            "[[before]]\nstep = 'text'\ntokenizer = 't.json'",
            "line 1: ids = '' names no input of whole numbers that is free; the graph has none.",
        ),
        (TOKENS, "[[before]]\nstep = 'text'\ntokenizer = 't.json'\nmask = 'm'", "line 1: mask = 'm' names no input of whole numbers"),
    ],
)
def test_each_kind_of_chain_is_held_to_its_graph(tmp_path: Path, graph: Signature, text: str, said: str) -> None:
    assert refusal(tmp_path, text, graph).startswith(said)


def test_a_graph_that_takes_a_fixed_number_of_rows_cannot_be_given_rows(tmp_path: Path) -> None:
    fixed = Signature((TensorSpec("x", "float32", (4, 3, 224, 224)),), PICTURES.outputs)

    assert refusal(tmp_path, CROPPED, fixed).startswith("input 'x' of the graph takes exactly 4 rows")


def test_an_output_called_like_a_made_one_is_refused(tmp_path: Path) -> None:
    graph = Signature(PICTURES.inputs, (*PICTURES.outputs, TensorSpec("score", "float32", ("N", 2))))

    assert refusal(tmp_path, CROPPED + "[[after]]\nstep = 'softmax'\noutput = 'y'", graph).startswith("two outputs would be called 'score'")


def test_a_pipe_is_told_and_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(ImportRefused, match="no plain file"):
        read_declaration(tmp_path / "pipe")


def test_every_setting_is_spelled_out_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(CROPPED + '[[after]]\nstep = "top_k"\n')

    fitted = prepare(read_declaration(tmp_path / "p.toml"), PICTURES, None).processing

    assert fitted.before[0] == Step("image", {"name": "image", "into": "x", "colour": "rgb", "rotate": True, "max_pixels": 16_777_216})
    assert fitted.before[-1] == Step("layout", {"order": "NCHW"})
    assert fitted.after == (Step("top_k", {"output": "y", "k": 5}),)


def test_what_another_release_declared_and_this_one_does_not_know_is_not_guessed() -> None:
    with pytest.raises(VersionError, match="does not know"):
        read_steps(Processing((Step("image", {"name": "image", "wavelet": True}),)))


def test_two_texts_keep_their_own_tokenizers(tmp_path: Path) -> None:
    pair = Signature(tuple(TensorSpec(name, "int64", ("N", "T")) for name in ("a", "b")), (TensorSpec("y", "float32", ("N", 1)),))
    text = "".join(f"[[before]]\nstep = 'text'\nname = 't{name}'\nids = '{name}'\ntokenizer = '{name}.json'\n" for name in "ab")
    (tmp_path / "p.toml").write_text(text)

    fitted = prepare(read_declaration(tmp_path / "p.toml"), pair, None)

    assert fitted.files == (("processing/tokenizer.json", tmp_path / "a.json"), ("processing/tokenizer1.json", tmp_path / "b.json"))
    assert [spec.name for spec in fitted.outer.inputs] == ["ta", "tb"]


def test_a_segmenter_answers_with_the_class_of_each_pixel_of_its_output_out_and_the_others_as_they_are() -> None:
    outputs = tuple(TensorSpec(name, "float32", ("N", 21, 224, 224)) for name in ("out", "aux"))
    graph = Signature(PICTURES.inputs, outputs)

    made = prepare(preset("segmentation", graph, {}, has_labels=False), graph, None).outer

    assert [(spec.name, spec.dtype, spec.shape) for spec in made.outputs] == [
        ("score", "float32", ("N", 224, 224)),
        ("index", "int64", ("N", 224, 224)),
        ("aux", "float32", ("N", 21, 224, 224)),
    ]


def test_a_graph_that_ends_in_a_softmax_gets_no_second_one() -> None:
    has_one = preset("imagenet", PICTURES, {"y": "Softmax"}, has_labels=False)
    has_none = preset("imagenet", PICTURES, {"y": "Gemm"}, has_labels=True)

    assert [type(step).__name__ for step in has_one.after] == ["TopK"]
    assert [type(step).__name__ for step in has_none.after] == ["Softmax", "TopK", "Labels"]


@pytest.mark.parametrize(
    ("shape", "size", "shorter"),
    [(("N", 3, 224, 224), (224, 224), 256), (("N", 299, 299, 3), (299, 299), 342), (("N", 3, "H", "W"), (224, 224), 256)],
)
def test_a_preset_reads_the_size_off_the_graph(shape: tuple, size: tuple[int, int], shorter: int) -> None:
    graph = Signature((TensorSpec("x", "float32", shape),), PICTURES.outputs)
    found = preset("imagenet", graph, {}, has_labels=False)

    assert isinstance(found, Declaration)
    assert (found.before[2].width, found.before[2].height) == size
    assert found.before[1].shorter == shorter
    assert prepare(found, graph, None).outer.inputs == (TensorSpec("image", "string", ("N",)),)
