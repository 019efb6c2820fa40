"""Reading a model in a process of its own: what it finds, what it refuses by name, and that only that process can suffer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from towline.convert import graph
from towline.convert import inspect as inside
from towline.convert import onnx as reading
from towline.convert.files import copy_source
from towline.convert.inspected import Inspected
from towline.convert.onnx import Inspection, inspect_model
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature, TensorSpec
from towline.testing import tiny_models


@pytest.fixture
def inspect(tmp_path: Path):
    """What the inspecting process would answer, without paying for a process each time."""

    def read(model) -> Inspected:
        raw = model if isinstance(model, bytes) else model.SerializeToString()
        return reading._accepted(msgspec.json.encode(inside._report(tiny_models.write(tmp_path, raw))))

    return read


@pytest.fixture
def refused(inspect):
    def read(model) -> ImportRefused:
        with pytest.raises(ImportRefused) as caught:
            inspect(model)
        assert caught.value.message.isprintable()
        assert "/tmp" not in caught.value.message
        assert len(caught.value.message) < 500
        return caught.value

    return read


def mlp() -> onnx.ModelProto:
    return onnx.load_from_string(tiny_models.mlp())


def test_the_report_tells_what_the_graph_holds(tmp_path):
    found = inspect_model(tiny_models.write(tmp_path, tiny_models.mlp()))

    assert found.signature == Signature(inputs=(TensorSpec("x", "float32", ("N", 10)),), outputs=(TensorSpec("y", "float32", ("N", 10)),))
    assert found.parameters == 10 * 64 + 64 + 64 * 10 + 10
    assert found.operators == {"Gemm": 2, "Relu": 1, "Softmax": 1}
    assert found.opset == {"ai.onnx": tiny_models.OPSET}
    assert found.producer == "towline-tiny"
    assert found.warnings == found.unnamed == ()


def test_external_data_is_read_from_beside_the_copy(tmp_path):
    source, staged = tmp_path / "source", tmp_path / "staged"
    source.mkdir()
    staged.mkdir()

    copied = copy_source(tiny_models.external(source), staged)

    assert inspect_model(staged / copied.model_file).parameters == 16


def test_external_data_of_another_size_than_the_dims_is_refused(tmp_path):
    path = tiny_models.external(tmp_path, length="60")

    with pytest.raises(ImportRefused) as caught:
        inspect_model(path)

    assert caught.value.code == "EXTERNAL_DATA_SHORT"
    assert "'w'" in caught.value.message


def test_open_dims_without_a_name_get_symbols_of_their_own(inspect):
    model = mlp()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = -1

    found = inspect(model)

    assert found.signature.inputs[0].shape == ("x_0", 10)
    assert found.signature.outputs[0].shape == ("y_0", 10)
    assert found.unnamed == ("x_0", "y_0")


def test_a_made_up_symbol_never_meets_one_of_the_models(inspect):
    model = mlp()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "x_0"

    assert inspect(model).unnamed == ("x_0_2",)


def test_an_odd_symbol_is_renamed_the_same_wherever_it_stands(inspect):
    model = mlp()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N\n\x1b[31m"

    found = inspect(model)

    assert found.signature.inputs[0].shape == found.signature.outputs[0].shape == ("dim_0", 10)


def test_inputs_that_are_initializers_are_no_inputs(inspect):
    model = mlp()
    model.graph.input.append(helper.make_tensor_value_info("b1", TensorProto.FLOAT, [64]))

    assert [spec.name for spec in inspect(model).signature.inputs] == ["x"]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (helper.make_tensor_type_proto(TensorProto.BFLOAT16, ["N"]), "input 'x' is bfloat16"),
        (helper.make_tensor_type_proto(TensorProto.COMPLEX64, ["N"]), "input 'x' is complex64"),
        (helper.make_tensor_type_proto(TensorProto.INT4, ["N"]), "input 'x' is int4"),
        (helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["N"])), "input 'x' is a sequence"),
        (helper.make_optional_type_proto(helper.make_tensor_type_proto(1, ["N"])), "input 'x' is an optional"),
    ],
)
def test_types_no_request_carries_are_refused_by_name(refused, kind, words):
    values = [helper.make_value_info(name, kind) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", values[:1], values[1:])

    caught = refused(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))

    assert caught.code == "UNSUPPORTED_TYPE"
    assert words in caught.message


def broken(change) -> onnx.ModelProto:
    model = mlp()
    change(model.graph)
    return model


def set_raw(tensor, raw=None, dims=None):
    if raw is not None:
        tensor.raw_data = raw
    if dims is not None:
        del tensor.dims[:]
        tensor.dims.extend(dims)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field, written by hand: the libraries refuse to build what we want to see refused."""
    length, size = b"", len(content)
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    tag = number << 3 | 2
    return bytes([tag] if tag < 128 else [tag & 127 | 128, tag >> 7]) + length + bytes([size]) + content


def nested_ifs(depth: int) -> bytes:
    """A model of `depth` graphs, each the branch of an If in the one before."""
    output = helper.make_tensor_value_info("v", TensorProto.FLOAT, [1]).SerializeToString()
    node = helper.make_node("Identity", ["zero"], ["v"]).SerializeToString()
    for _ in range(depth - 1):
        inner = field(1, node) + field(2, b"inner") + field(12, output)
        branch = field(1, b"then_branch") + field(6, inner) + b"\xa0\x01\x05"
        node = field(1, b"on") + field(2, b"v") + field(4, b"If") + field(5, branch)
    model = mlp()
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(True), "on"), numpy_helper.from_array(np.zeros(1, np.float32), "zero")]
    )
    graph = model.graph.SerializeToString() + field(1, node)
    model.ClearField("graph")
    return model.SerializeToString() + field(7, graph)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda graph: set_raw(graph.initializer[0], raw=b"\0" * 100),
            "'w1' in the graph has 100 bytes of data where its dims [10, 64] need 2560",
        ),
        (lambda graph: set_raw(graph.initializer[0], dims=[2**32, 2**32]), "[4294967296, 4294967296] need 73786976294838206464"),
        (lambda graph: set_raw(graph.initializer[0], dims=[-1, 64]), "'w1' in the graph has dims [-1, 64]"),
        (lambda graph: graph.initializer[0].ClearField("raw_data"), "'w1' in the graph has 0 values in float_data"),
        (lambda graph: graph.initializer.append(graph.initializer[0]), "Two initializers of the graph are called 'w1'"),
        (lambda graph: graph.output[0].__setattr__("name", "nowhere"), "Nothing in the graph makes its output 'nowhere'"),
        (lambda graph: graph.ClearField("output"), "The graph has no output"),
        (lambda graph: graph.node[1].input.__setitem__(0, "gone"), "Node 'relu' (Relu) in the graph takes 'gone', which nothing makes"),
        (lambda graph: graph.node[0].input.__setitem__(0, "a"), "takes 'a', which 'relu' (Relu) makes only later: the graph has a cycle"),
        (
            lambda graph: graph.node[3].output.__setitem__(0, "z"),
            "Node 'probabilities' (Softmax) in the graph makes 'z', which exists already",
        ),
        (lambda graph: graph.node[1].__setattr__("name", "bad\x1b\n"), "OK"),
        (lambda graph: graph.node[1].attribute.append(helper.make_attribute("nonsense", 1)), "Unrecognized attribute: nonsense"),
    ],
)
def test_an_invalid_graph_is_refused_with_the_place_named(inspect, refused, change, words):
    model = broken(change)
    if words == "OK":
        assert inspect(model).operators["Relu"] == 1
        return
    caught = refused(model)

    assert caught.code == "INVALID_GRAPH"
    assert words in caught.message


def test_control_characters_in_a_node_name_are_escaped(refused):
    def change(graph):
        graph.node[1].name = "bad\x1b[31m\n"
        graph.node[1].input[0] = "gone"

    assert r"Node 'bad\x1b[31m\n' (Relu)" in refused(broken(change)).message


def test_a_name_that_is_no_utf8_is_refused(refused):
    raw = tiny_models.mlp().replace(b"Relu", b"Rel\xff")

    assert refused(raw).code == "INVALID_GRAPH"


@pytest.mark.parametrize("name", ["", "x\n", "x" * 300])
def test_an_input_name_that_no_request_could_use_is_refused(refused, name):
    model = mlp()
    model.graph.input[0].name = model.graph.node[0].input[0] = name

    assert refused(model).code in ("BAD_TENSOR_NAME", "INVALID_GRAPH")


def test_subgraphs_may_be_nested_thirty_deep_but_not_forty(inspect, refused):
    with pytest.raises(ImportRefused, match=r"then_branch|else_branch"):
        inspect(nested_ifs(30))
    assert refused(nested_ifs(33)).code == "LIMIT_EXCEEDED"
    assert refused(nested_ifs(40)).code == "LIMIT_EXCEEDED"


def test_our_own_limit_on_nesting_holds_whatever_the_parser_allows(refused, monkeypatch):
    monkeypatch.setattr(graph, "MAX_DEPTH", 5)

    assert "lie more than 5 deep" in refused(nested_ifs(6)).message


def test_a_million_nodes_are_refused_before_one_is_looked_at(refused):
    # Nothing makes what they take: whoever looked at the first would say that.
    node = helper.make_node("Relu", ["a"], ["b"]).SerializeToString()
    nodes = field(1, node) * 1_000_000

    caught = refused(b"\x08\x08" + field(7, nodes))

    assert caught.code == "LIMIT_EXCEEDED"
    assert "1000000 nodes" in caught.message


def with_functions(*functions: onnx.FunctionProto, call: str) -> onnx.ModelProto:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in "xy"]
    graph = helper.make_graph([helper.make_node(call, ["x"], ["y"], domain="local")], "g", value[:1], value[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def function(name: str, calls: str, times: int, domain: str = "local") -> onnx.FunctionProto:
    nodes = [helper.make_node(calls, [f"v{i}" if i else "a"], [f"v{i + 1}"], domain=domain) for i in range(times)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_function("local", name, ["a"], [f"v{times}"], nodes, opsets)


def test_model_local_functions_are_taken(inspect):
    found = inspect(with_functions(function("F", "Relu", 3, domain=""), call="F"))

    assert found.functions == 1


def test_functions_that_unfold_without_end_are_refused(refused):
    levels = [function("F0", "Relu", 10, domain=""), *(function(f"F{i}", f"F{i - 1}", 10) for i in range(1, 12))]

    assert refused(with_functions(*levels, call="F11")).code == "LIMIT_EXCEEDED"
    assert "'G' calls itself" in refused(with_functions(function("G", "G", 1), call="G")).message


def test_operators_that_need_a_library_are_refused_with_the_domain(refused):
    caught = refused(with_functions(call="Mystery"))

    assert caught.code == "CUSTOM_OPERATORS"
    assert "'Mystery' of the operator domain 'local'" in caught.message


def test_a_size_that_comes_from_the_request_is_warned_of(inspect):
    assert inspect(tiny_models.memory_bomb()).warnings == (
        "Node 'bomb' takes a size from the request's values: a small request may need much memory or time.",
    )
    assert "'loop'" in inspect(tiny_models.counted_loop()).warnings[0]
    assert inspect(tiny_models.counted_loop(rounds=3)).warnings == ()


def test_a_size_that_comes_from_a_shape_is_none_to_warn_of(inspect):
    model = mlp()
    model.graph.node.extend([helper.make_node("Shape", ["y"], ["s"]), helper.make_node("ConstantOfShape", ["s"], ["c"])])

    assert inspect(model).warnings == ()


@pytest.fixture
def replaced_by(monkeypatch):
    """Have the inspecting process run other code, to see what the caller makes of its fate."""

    def replace(code: str) -> None:
        real = subprocess.Popen
        monkeypatch.setattr(
            reading.subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", code, *command[4:]], **options)
        )

    return replace


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV"),
        ("import os; os.abort()", "was killed by SIGABRT"),
        ("raise SystemExit(3)", "ended without an answer"),
        ("print('nonsense')", "ended without an answer"),
        ("print('{}')", "ended without an answer"),
        ('print(\'{"inspected": {"signature": 1}}\')', "ended without an answer"),
        ("print('x' * (40 << 20))", "ended without an answer"),
    ],
)
def test_a_process_that_dies_or_lies_is_a_refusal(tmp_path, replaced_by, code, words):
    replaced_by(code)

    with pytest.raises(ImportRefused) as caught:
        inspect_model(tiny_models.write(tmp_path, tiny_models.mlp()))

    assert caught.value.code == "INSPECTION_DIED"
    assert words in caught.value.message


def test_a_process_that_is_late_is_ended(tmp_path, replaced_by):
    replaced_by("import time; time.sleep(100)")

    with pytest.raises(ImportRefused) as caught:
        inspect_model(tiny_models.write(tmp_path, tiny_models.mlp()), timeout_s=0.2)

    assert caught.value.code == "INSPECTION_TIMEOUT"


def test_cancelling_leaves_no_process(tmp_path):
    with Inspection(tiny_models.write(tmp_path, tiny_models.mlp())) as inspection:
        pid = inspection._process.pid

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_process_limits_itself_before_it_reads(tmp_path):
    path = tiny_models.write(tmp_path, tiny_models.mlp())
    code = (
        "import resource, signal, sys; from towline.convert import inspect; inspect.limit(1000, 7, file_bytes=1 << 20); "
        "print(*(resource.getrlimit(what) for what in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)), "
        "signal.getitimer(signal.ITIMER_REAL)[0] > 7, 'onnx' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout

    memory = (3 << 30) + 6 * 1000
    assert printed == f"({memory}, {memory}) (7, 8) (0, 0) True False\n"


def test_a_process_out_of_cpu_time_says_so(tmp_path, replaced_by):
    replaced_by("import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass")

    with pytest.raises(ImportRefused, match="used up its time"):
        inspect_model(tiny_models.write(tmp_path, tiny_models.mlp()))


def test_a_module_beside_the_user_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "onnx.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)

    assert inspect_model(tiny_models.write(tmp_path, tiny_models.mlp())).functions == 0


def mutated(raw: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, or a piece cut out, doubled or zeroed."""
    at, size = int(rng.integers(len(raw))), int(rng.integers(1, 64))
    match int(rng.integers(5)):
        case 0:
            return raw[:at] + raw[at + size :]
        case 1:
            return raw[: at + size] + raw[at:]
        case 2:
            return raw[:at] + b"\0" * size + raw[at + size :]
        case _:
            changed = bytearray(raw)
            for place in rng.integers(len(raw), size=int(rng.integers(1, 3))):
                changed[place] = int(rng.integers(256))
            return bytes(changed)


def test_hundreds_of_mutations_are_refused_or_read_but_harm_nobody(tmp_path):
    rng = np.random.default_rng(20)
    bases = (tiny_models.mlp(width=4), tiny_models.slow(rounds=1, width=8), tiny_models.dynamic_int8(), tiny_models.counted_loop())
    copies, torn = [], 0
    for number in range(240):
        staged = tmp_path / str(number)
        staged.mkdir()
        source = tiny_models.write(staged, mutated(bases[number % len(bases)], rng))
        try:
            copies.append(str(staged / copy_source(source, staged).model_file))
        except ImportRefused:
            torn += 1
    many = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("inspect_many.py")), *copies],
        capture_output=True,
        text=True,
        timeout=1800,
        check=True,
    )
    answers = many.stdout.split("\n")[:-1]

    assert len(answers) == len(copies)
    assert torn > 20
    assert answers.count("ok") > 20
    assert {"INVALID_GRAPH", "TORN_FILE"} <= set(answers)
    # Should a library die of one some day, it is the inspecting process that dies: nothing above may change.
    assert not [answer for answer in answers if answer == f"died {-signal.SIGALRM}"]
