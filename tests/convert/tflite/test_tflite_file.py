"""TensorFlow Lite files are read by ourselves, within limits: what LiteRT is given lies within its file and can be run."""

from __future__ import annotations

import random

import pytest
from small_files import Number, Shared, code, graph, model, operator, read, tensor, tflite

from towline.convert.tflite import flatbuffer
from towline.convert.tflite import model as tflite_model
from towline.convert.tflite.model import TfliteModel, read_model
from towline.convert.tflite.operators import BUILT_IN, CUSTOM, RUNS_GRAPHS, why_not
from towline.convert.tflite.signature import quantised, signatures
from towline.convert.tflite.structure import check_structure
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec

ALL = ("classifier", "unnamed", "int8", "recurrent", "counter", "rounds", "circle", "flex", "words")
WHILE, ADD = BUILT_IN.index("WHILE"), BUILT_IN.index("ADD")


def checked(raw: bytes) -> TfliteModel:
    found = read_model(raw)
    check_structure(found)
    signatures(found)
    return found


# What is read


def test_signatures_keep_their_names_and_an_open_batch() -> None:
    found = checked(read("classifier"))
    x = TensorSpec("x", "float32", ("N", 8))

    assert signatures(found) == {
        "serving_default": Signature((x,), (TensorSpec("probabilities", "float32", ("N", 3)),)),
        "features": Signature((x,), (TensorSpec("hidden", "float32", ("N", 4)),)),
    }
    assert found.operators == {"FULLY_CONNECTED": 3, "SOFTMAX": 1}
    assert found.producer == "MLIR Converted."


def test_a_file_without_signatures_is_known_by_its_tensors() -> None:
    (only,) = signatures(checked(read("unnamed"))).items()

    assert only == (
        "serving_default",
        Signature((TensorSpec("serving_default_x:0", "float32", ("N", 8)),), (TensorSpec("PartitionedCall:0", "float32", ("N", 3)),)),
    )


def test_quantised_inputs_stay_what_they_are_and_the_formula_is_told() -> None:
    found = checked(read("int8"))
    signature = signatures(found)["serving_default"]

    assert [spec.dtype for spec in (*signature.inputs, *signature.outputs)] == ["int8", "int8"]
    first, second = quantised(found)
    assert first.startswith("'picture' is int8: a value q means 0.00783")
    assert first.endswith(" * q.")
    assert second.endswith(" * (q - 62).")


def test_text_is_carried() -> None:
    (signature,) = signatures(checked(read("words"))).values()

    assert [(spec.name, spec.dtype) for spec in (*signature.inputs, *signature.outputs)] == [
        ("words", "string"),
        ("again", "string"),
        ("is_yes", "bool"),
    ]


def test_parameters_are_the_elements_of_all_constants() -> None:
    assert checked(read("recurrent")).parameters == 3 * 2 + 3 * 3 + 3


def test_the_table_of_operators_is_the_schemas() -> None:
    # A name that slips by one place would refuse the wrong operators.
    assert [BUILT_IN.index(name) for name in ("ADD", "CUSTOM", "IF", "WHILE", "CALL_ONCE", "ASSIGN_VARIABLE", "STABLEHLO_CASE")] == [
        0,
        32,
        118,
        119,
        129,
        144,
        209,
    ]
    assert RUNS_GRAPHS.keys() <= set(BUILT_IN)


# What is not run


def refused(raw: bytes) -> ImportRefused:
    with pytest.raises(ImportRefused) as caught:
        checked(raw)
    return caught.value


def test_operators_of_tensorflow_itself_are_named() -> None:
    error = refused(read("flex"))

    assert (error.code, error.message) == (
        "UNSUPPORTED_OPERATOR",
        "The model uses operators of TensorFlow itself, which LiteRT does not have: 'FlexMatrixInverse'.",
    )
    assert "SavedModel" in error.hint


def test_custom_operators_are_named_and_no_library_is_loaded_for_them() -> None:
    error = refused(read("flex").replace(b"FlexMatrixInverse", b"Evil\nMatrixInvers"))

    assert error.message == "The model uses operators that LiteRT does not have: 'Evil\\nMatrixInvers'."


def test_custom_operators_that_come_with_litert_are_taken() -> None:
    raw = model([graph([tensor()], [operator()])], [code(CUSTOM, "TFLite_Detection_PostProcess")])

    assert checked(raw).operators == {"TFLite_Detection_PostProcess": 1}


@pytest.mark.parametrize("number", [BUILT_IN.index("DELEGATE"), BUILT_IN.index("STABLEHLO_CUSTOM_CALL"), len(BUILT_IN), 100_000, -1])
def test_operators_that_nothing_here_runs_are_refused(number: int) -> None:
    assert (
        refused(model([graph([tensor()], [operator()])], [{3: Number("int32", number), 0: Number("int8", -1)}])).code
        == "UNSUPPORTED_OPERATOR"
    )


def test_every_other_operator_is_taken() -> None:
    taken = [name for name in BUILT_IN if not why_not(name)]

    assert len(taken) == len(BUILT_IN) - 5
    assert "CUSTOM" not in taken


def test_a_custom_operator_is_not_taken_for_a_built_in_one() -> None:
    error = refused(model([graph([tensor()], [operator()])], [code(CUSTOM, "ADD")]))

    assert "'custom ADD'" in error.message


def test_a_model_that_remembers_who_asked_before_is_refused() -> None:
    error = refused(read("counter"))

    assert error.code == "STATEFUL_MODEL"
    assert "ASSIGN_VARIABLE" in error.message


def test_what_runs_once_may_fill_tables() -> None:
    codes = [code(BUILT_IN.index("CALL_ONCE")), code(BUILT_IN.index("ASSIGN_VARIABLE"))]
    once = operator(0, _3=Number("uint8", 103), _4={0: Number("int32", 1)})

    checked(model([graph([tensor()], [once]), graph([tensor()], [operator(1)])], codes))


def test_graphs_that_run_one_another_in_a_circle_are_refused() -> None:
    loop = operator(0, _3=Number("uint8", 93), _4={0: Number("int32", 1), 1: Number("int32", 2)})
    back = operator(0, _3=Number("uint8", 93), _4={0: Number("int32", 1), 1: Number("int32", 0)})
    graphs = [graph([tensor()], [loop]), graph([tensor()]), graph([tensor()], [back])]

    assert refused(read("circle")).code == "ENDLESS_GRAPH"
    assert refused(model(graphs, [code(WHILE)])).code == "ENDLESS_GRAPH"
    checked(read("rounds"))


# What is no model


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "identifier is missing"),
        (b"\0\0\0\0TFL3" + b"\0" * 40, "a table has no shape"),
        (b"\xff\xff\xff\xffTFL3" + b"\0" * 40, "points to byte"),
        (b"\x10\0\0\0TFL4" + b"\0" * 40, "identifier is missing"),
        (tflite({0: Number("uint32", 2)}), "schema version 2"),
        (tflite({}), "has 0 graphs"),
        (model(Shared(graph([tensor()]), 1025)), "has 1025 graphs"),
        (model([graph([tensor()], [operator(3)])], [code(ADD)]), "an operator has code 3 of 1"),
        (model([graph([tensor()], [operator(inputs=(1,))])], [code(ADD)]), "tensor 1 of 1"),
        (model([graph([tensor()], [operator(inputs=(-2,))])], [code(ADD)]), "tensor -2 of 1"),
        (model([graph([tensor()], inputs=(-1,))]), "tensor -1 of 1"),
        (model([graph([tensor()], [operator(_4={1: Number("int32", 9)})])], [code(WHILE)]), "WHILE runs graph 9 of 1"),
        (model([graph([tensor(buffer=5)])]), "a tensor has buffer 5 of 1"),
        (model([graph([tensor((2, 3), buffer=1)])], buffers=({0: b"1234"},)), "'x' has 4 bytes where its shape asks for 24"),
        (model([graph([tensor((-2,))])]), "negative size"),
        (model([graph([tensor((1 << 30, 1 << 30))])]), "more than 4 GiB"),
        (model([graph([tensor((1,) * 17)])]), "rank 17"),
        (model([graph([tensor(type_number=99)])]), "type 99"),
        (model([graph([tensor()])], _7=[{4: Number("uint32", 3)}]), "a signature has graph 3 of 1"),
        (model([graph([tensor()])], _7=[{0: [{0: "a", 1: Number("uint32", 7)}]}]), "tensor 7 of 1"),
        (model([graph([tensor()])], _7=[{0: [{0: "a"}, {0: "a"}]}]), "one name twice"),
        (model([graph([tensor()])], _7=[{2: "a"}, {2: "a"}]), "two signatures have one name"),
        (model([graph([tensor()])], _7=Shared({}, 65)), "65 signatures"),
        (model([graph([tensor()])], buffers=({1: Number("uint64", 4096), 2: Number("uint64", 100)},)), "behind its own end"),
        (model([graph([tensor()], [operator(_9=Number("uint64", 99))])], [code(ADD)]), "options behind its own end"),
        (model([graph([tensor()])], _8=[{0: "/etc/passwd"}]), "weights in other files"),
        (model([graph([tensor(_10=Number("uint32", 1))])]), "lies in another file"),
        (model([graph([tensor(type_number=8)])]), "complex64, which no request can carry"),
        (model([graph([tensor(type_number=13)])]), "resource, which no request can carry"),
        (model([graph([tensor(name="")])]), "is empty, too long or not printable"),
        (model([graph([tensor(name="a\nb")])]), "'a\\nb'"),
        (model([graph([tensor(), tensor()], inputs=(0, 1))]), "have one name"),
        (model([graph([tensor()], outputs=())]), "0 outputs"),
    ],
)
def test_what_is_no_model_is_refused_by_name(raw: bytes, words: str) -> None:
    assert words in refused(raw).message


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (model(Shared(graph(Shared(tensor(), 1000)), 11)), "more than 10000 tensors"),
        (model([graph([tensor()], Shared(operator(), 10_001))], [code(ADD)]), "or 10000 operators"),
        (model([graph([tensor()], Shared(operator(inputs=(0,) * 4096), 4096))], [code(ADD)]), "more than a model has"),
        (model([graph([tensor()])], buffers=Shared({}, 40_000)), "more than a model has"),
        (model([graph([tensor()])], _7=Shared({0: Shared({0: "n"}, 4096)}, 60)), "one name twice"),
        (model([graph(Shared(tensor(name="n" * 100_000), 4096))]), "more than a model has"),
    ],
    ids=["tensors", "operators", "inputs", "buffers", "names", "long names"],
)
def test_a_small_file_that_describes_an_endless_one_is_refused(raw: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flatbuffer, "MAX_STEPS", 80_000)
    monkeypatch.setattr(tflite_model, "MAX_TENSORS", 10_000)
    monkeypatch.setattr(tflite_model, "MAX_OPERATORS", 10_000)

    assert len(raw) < 1 << 20
    assert words in refused(raw).message


@pytest.mark.parametrize("name", ALL)
def test_a_torn_file_is_refused_or_whole_enough(name: str) -> None:
    raw = read(name)
    refusals = 0
    for size in range(0, len(raw), 7):
        try:
            checked(raw[:size])
        except ImportRefused:
            refusals += 1

    assert refusals >= len(raw) // 7 * 0.9


def test_four_thousand_changed_files_are_refused_or_read_and_nothing_else_happens() -> None:
    chance = random.Random(4)
    for number in range(4000):
        raw = bytearray(read(ALL[number % len(ALL)]))
        for _ in range(chance.randint(1, 8)):
            at = chance.randrange(len(raw))
            raw[at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        try:
            checked(bytes(raw))
        except ImportRefused:
            continue
