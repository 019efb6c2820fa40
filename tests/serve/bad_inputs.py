"""The bad-input catalogue as data: what is sent, and what must come back. Replayed with and without a socket.

The rows are written for the models of `MODELS`; `#` comments give the catalogue's row numbers.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import struct
import zlib

import numpy as np

from towline.testing import tiny_models

# Name -> the model's bytes. m: x float32 [N, 2] -> y; two: a, b float32 [N, 2] -> y; the others pass x [N, 2] through.
MODELS = {
    "m": tiny_models.identity("float32"),
    "two": tiny_models.add_two(),
    "u8": tiny_models.identity("uint8"),
    "i64": tiny_models.identity("int64"),
    "u64": tiny_models.identity("uint64"),
    "f16": tiny_models.identity("float16"),
    "f64": tiny_models.identity("float64"),
    "flag": tiny_models.identity("bool"),
    "text": tiny_models.identity("string"),
    "log": tiny_models.logarithm(),
}
MAX_BATCH = 8
MAX_REQUEST_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Row:
    """One request. `words` must all be in the message; `field` is compared when given."""

    title: str
    path: str
    body: bytes
    status: int
    code: str = ""
    words: tuple[str, ...] = ()
    field: str | None = None
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    method: str = "POST"


def _bomb(window: int) -> bytes:
    engine = zlib.compressobj(9, zlib.DEFLATED, window)
    return b"".join([engine.compress(bytes(1 << 20)) for _ in range(64)]) + engine.flush()


def _v1(title: str, body: bytes | str, status: int, code: str, *words: str, model: str = "m", **more: object) -> Row:
    raw = body.encode() if isinstance(body, str) else body
    return Row(f"v1 {title}", f"/v1/models/{model}:predict", raw, status, code, words, **more)  # type: ignore[arg-type]


GOOD_V1 = '{"instances": [[1, 2]]}'
_GZIP = {"Content-Encoding": "gzip"}

V1 = (
    _v1("empty body", "", 400, "EMPTY_BODY"),  # 1
    _v1("only white space", " \n\t", 400, "EMPTY_BODY"),
    _v1("an open brace", "{", 400, "BAD_JSON", "offset: 1"),  # 2
    _v1("a torn list", '{"instances": [[1, 2', 400, "BAD_JSON", "offset"),
    _v1("a list for a body", "[]", 400, "WRONG_TYPE"),
    _v1("a number for a body", "7", 400, "WRONG_TYPE"),
    _v1("a lone quote", '"', 400, "BAD_JSON"),
    _v1("nesting a million deep", "[" * 1_000_000, 400, "BAD_JSON", "deep"),
    _v1("neither instances nor inputs", "{}", 400, "MISSING_INPUT", "Missing 'inputs' or 'instances' key"),  # 4
    _v1("both", '{"instances": [[1, 2]], "inputs": [[1, 2]]}', 400, "AMBIGUOUS_FORMAT", "inputs", "instances"),  # 5
    _v1("instances an object", '{"instances": {}}', 400, "WRONG_TYPE", "list", field="instances"),  # 7
    _v1("instances null", '{"instances": null}', 400, "WRONG_TYPE", "list", field="instances"),
    _v1("instances empty", '{"instances": []}', 400, "EMPTY_BATCH", "No values in 'instances'"),
    _v1("inputs empty", '{"inputs": []}', 400, "SHAPE_MISMATCH", field="inputs"),
    _v1("a ragged row", '{"instances": [[1, 2], [3]]}', 400, "RAGGED", field="instances[1]"),  # 8
    _v1("a number among lists", '{"instances": [[1, 2], 3]}', 400, "RAGGED", field="instances[1]"),
    _v1("a list among numbers", '{"instances": [[1, [2]]]}', 400, "RAGGED", field="instances[0][1]"),
    _v1("too few columns", '{"instances": [[1]]}', 400, "SHAPE_MISMATCH", "[N, 2]", "[1, 1]"),
    _v1("rank too high", '{"instances": [[[1, 2]]]}', 400, "SHAPE_MISMATCH", "[N, 2]"),
    _v1("rank 40", '{"instances": ' + "[" * 40 + "1" + "]" * 40 + "}", 400, "SHAPE_MISMATCH"),
    _v1("true for a float", '{"instances": [[1, true]]}', 400, "WRONG_TYPE", "true", field="instances[0][1]"),  # 10
    _v1("null for a float", '{"instances": [[null, 1]]}', 400, "WRONG_TYPE", "null", field="instances[0][0]"),  # 11
    _v1("a string for a float", '{"instances": [["1", 1]]}', 400, "WRONG_TYPE", field="instances[0][0]"),
    _v1("1.9 for an integer", '{"instances": [[1.9, 1]]}', 400, "WRONG_TYPE", "whole", model="u8", field="instances[0][0]"),
    _v1("1.0 for an integer", '{"instances": [[1.0, 1]]}', 400, "WRONG_TYPE", model="i64", field="instances[0][0]"),
    _v1("true for an integer", '{"instances": [[1, true]]}', 400, "WRONG_TYPE", model="u8", field="instances[0][1]"),
    _v1("1 for a bool", '{"instances": [[true, 1]]}', 400, "WRONG_TYPE", "true or false", model="flag", field="instances[0][1]"),
    _v1("300 for uint8", '{"instances": [[1, 300]]}', 400, "OUT_OF_RANGE", "0 to 255", model="u8", field="instances[0][1]"),  # 13
    _v1("-1 for uint8", '{"instances": [[-1, 3]]}', 400, "OUT_OF_RANGE", model="u8", field="instances[0][0]"),
    _v1("2^63 for int64", '{"instances": [[9223372036854775808, 1]]}', 400, "OUT_OF_RANGE", model="i64", field="instances[0][0]"),
    _v1("2^64 for uint64", '{"instances": [[18446744073709551616, 1]]}', 400, "OUT_OF_RANGE", model="u64", field="instances[0][0]"),
    _v1("NaN for an integer", '{"instances": [[NaN, 1]]}', 400, "WRONG_TYPE", model="i64", field="instances[0][0]"),
    _v1("1e39 for float32", '{"instances": [[1e39, 1]]}', 400, "OUT_OF_RANGE", "float32", field="instances[0][0]"),  # 16
    _v1("65520 for float16", '{"instances": [[65520, 1]]}', 400, "OUT_OF_RANGE", model="f16", field="instances[0][0]"),
    _v1("1e400 for float64", '{"instances": [[1, 1e400]]}', 400, "OUT_OF_RANGE", model="f64", field="instances[0][1]"),
    _v1("1e400 beside NaN", '{"instances": [[NaN, 1e400]]}', 400, "OUT_OF_RANGE", field="instances[0][1]"),
    _v1("an integer of 5,001 digits", '{"instances": [[1, ' + "9" * 5001 + "]]}", 400, "OUT_OF_RANGE"),  # 17
    _v1("an integer of 400 digits", '{"instances": [[1, ' + "9" * 400 + "]]}", 400, "OUT_OF_RANGE", model="f64"),
    _v1("duplicate keys", '{"instances": [[1, 2]], "instances": [[3, 4]]}', 400, "DUPLICATE_KEY", field="instances"),  # 19
    _v1("a duplicate key in disguise", '{"instances": [[1, 2]], "\\u0069nstances": [[3, 4]]}', 400, "DUPLICATE_KEY", field="instances"),
    _v1("duplicate keys in a row", '{"instances": [{"x": [1, 2], "x": [3, 4]}]}', 400, "DUPLICATE_KEY", field="x"),
    _v1("a duplicate signature_name", '{"signature_name": "a", "instances": [[1, 2]], "signature_name": ""}', 400, "DUPLICATE_KEY"),
    _v1("a byte order mark", b"\xef\xbb\xbf" + GOOD_V1.encode(), 400, "BAD_ENCODING"),  # 20
    _v1("UTF-16", GOOD_V1.encode("utf-16"), 400, "BAD_ENCODING"),
    _v1("UTF-16 without a mark", GOOD_V1.encode("utf-16-le"), 400, "BAD_ENCODING"),
    _v1("bad UTF-8", b'{"instances": [["\xff\xfe"]]}', 400, "BAD_ENCODING", "byte"),
    _v1("half a surrogate pair", '{"instances": [["\\ud800"]]}', 400, "BAD_ENCODING", model="text"),
    _v1("half a surrogate pair as a key", '{"\\uD83d": 1, "instances": [[1, 2]]}', 400, "BAD_ENCODING"),
    _v1("a batch above the limit", json.dumps({"instances": [[1, 2]] * 9}), 413, "BATCH_TOO_LARGE", "8"),  # 22
    _v1("a column above the limit", json.dumps({"inputs": [[1, 2]] * 9}), 413, "BATCH_TOO_LARGE", "8"),
    _v1("a gzip bomb", _bomb(31), 413, "BODY_TOO_LARGE", headers=_GZIP),  # 25
    _v1("a deflate bomb", _bomb(15), 413, "BODY_TOO_LARGE", headers={"Content-Encoding": "deflate"}),
    _v1("br", GOOD_V1, 415, "UNSUPPORTED_ENCODING", "gzip", headers={"Content-Encoding": "br"}),
    _v1("zstd", GOOD_V1, 415, "UNSUPPORTED_ENCODING", headers={"Content-Encoding": "zstd"}),
    _v1(
        "gzip twice",
        gzip.compress(gzip.compress(GOOD_V1.encode())),
        415,
        "UNSUPPORTED_ENCODING",
        headers={"Content-Encoding": "gzip, gzip"},
    ),
    _v1("no gzip at all", GOOD_V1, 400, "BAD_ENCODING", headers=_GZIP),
    _v1("torn gzip", gzip.compress(GOOD_V1.encode())[:-4], 400, "BAD_ENCODING", headers=_GZIP),
    _v1("an unknown model", GOOD_V1, 404, "NOT_FOUND", "Servable not found for request: Latest(nobody)", model="nobody"),  # 28
    Row("v1 version 00", "/v1/models/m/versions/00:predict", GOOD_V1.encode(), 404, "NOT_FOUND", ("Specific(m, 00)",)),  # 29
    Row(
        "v1 version 99999999999999999999", f"/v1/models/m/versions/{'9' * 20}:predict", GOOD_V1.encode(), 404, "NOT_FOUND", ("Specific(m,",)
    ),
    Row("v1 version of 5,000 digits", f"/v1/models/m/versions/{'9' * 5000}:predict", GOOD_V1.encode(), 404, "NOT_FOUND", ("Specific(m,",)),
    Row("v1 version -1", "/v1/models/m/versions/-1:predict", GOOD_V1.encode(), 404, "MALFORMED_REQUEST", ("-1",)),
    Row("v1 version 9e9", "/v1/models/m/versions/9e9:predict", GOOD_V1.encode(), 404, "MALFORMED_REQUEST", ("9e9",)),
    Row("v1 version latest", "/v1/models/m/versions/latest:predict", GOOD_V1.encode(), 404, "MALFORMED_REQUEST", ("latest",)),
    Row(
        "v1 an unknown label",
        "/v1/models/m/labels/x:predict",
        GOOD_V1.encode(),
        400,
        "UNKNOWN_LABEL",
        ("Unrecognized servable version label: x",),
    ),
    *(
        Row(
            f"v1 {verb}",
            "/v1/models/m:predict",
            b"",
            400,
            "MALFORMED_REQUEST",
            (f"Malformed request: {verb} /v1/models/m:predict",),
            method=verb,
        )
        for verb in ("GET", "PUT", "DELETE", "TRACE")  # 31
    ),
    Row(
        "v1 an override is ignored",
        "/v1/models/m:predict",
        GOOD_V1.encode(),
        400,
        "MALFORMED_REQUEST",
        method="PUT",
        headers={"X-HTTP-Method-Override": "POST"},
    ),
    _v1("bad base64", '{"instances": [[{"b64": "!!!"}, "a"]]}', 400, "BAD_BASE64", model="text", field="instances[0][0]"),  # 32
    _v1("base64 for a number", '{"instances": [[{"b64": "AAAA"}, 1]]}', 400, "WRONG_TYPE", field="instances[0][0]"),
    _v1("an object that is no base64", '{"instances": [["a", {"b64": 1}]]}', 400, "WRONG_TYPE", model="text", field="instances[0][1]"),
    _v1("a number for a string", '{"instances": [["a", 1]]}', 400, "WRONG_TYPE", model="text", field="instances[0][1]"),
    _v1(
        "an unknown signature", '{"signature_name": "x", "instances": [[1, 2]]}', 400, "UNKNOWN_SIGNATURE", '"x" not found in signature def'
    ),
    _v1("a signature that is no string", '{"signature_name": 1, "instances": [[1, 2]]}', 400, "WRONG_TYPE", field="signature_name"),
    _v1("a plain list for two inputs", '{"instances": [[1, 2]]}', 400, "MISSING_INPUT", "list of objects", model="two"),
    _v1("a missing input", '{"instances": [{"a": [1, 2]}]}', 400, "MISSING_INPUT", "{b}", model="two", field="instances[0]"),
    _v1("an extra input", '{"instances": [{"a": [1, 2], "b": [1, 2], "c": 1}]}', 400, "UNKNOWN_INPUT", "{c}", model="two"),
    _v1("a missing column", '{"inputs": {"a": [[1, 2]]}}', 400, "MISSING_INPUT", "Missing named input: b", model="two"),
    _v1("columns of unlike size", '{"inputs": {"a": [[1, 2], [3, 4]], "b": [[1, 2]]}}', 400, "DIM_MISMATCH", "DIM_MISMATCH N", model="two"),
    _v1("a mixed list", '{"instances": [{"x": [1, 2]}, [1, 2]]}', 400, "WRONG_TYPE", "item 1", field="instances[1]"),
    Row("v1 a bad timeout", "/v1/models/m:predict", GOOD_V1.encode(), 400, "BAD_HEADER", headers={"X-Request-Timeout-Ms": "-1"}),
)


def _v2(title: str, body: object, status: int, code: str, *words: str, model: str = "m", **more: object) -> Row:
    raw = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return Row(f"v2 {title}", f"/v2/models/{model}/infer", raw, status, code, words, **more)  # type: ignore[arg-type]


def tensor(name: str = "x", shape: object = (1, 2), datatype: str = "FP32", **more: object) -> dict[str, object]:
    """An input as JSON; `data=None` leaves the data out."""
    given = {"name": name, "shape": shape, "datatype": datatype, "data": [1, 2]} | more
    return {key: value for key, value in given.items() if value is not None}


def _x(**more: object) -> dict[str, object]:
    return {"inputs": [tensor()], **more}


def _only(**more: object) -> dict[str, object]:
    return {"inputs": [tensor(**more)]}  # type: ignore[arg-type]


V2 = (
    _v2("empty body", "", 400, "EMPTY_BODY"),
    _v2("an open brace", "{", 400, "BAD_JSON", "offset: 1"),
    _v2("nesting a million deep", "[" * 1_000_000, 400, "BAD_JSON"),
    _v2("no inputs", {}, 400, "INVALID_ARGUMENT", "inputs"),  # 34
    _v2("inputs an object", {"inputs": {}}, 400, "INVALID_ARGUMENT", "array", field="inputs"),
    _v2("inputs empty", {"inputs": []}, 400, "MISSING_INPUT", "'x'"),
    _v2("an input that is a number", {"inputs": [1]}, 400, "INVALID_ARGUMENT", field="inputs[0]"),
    _v2("a missing input", {"inputs": [tensor("a")]}, 400, "MISSING_INPUT", "'b'", model="two"),  # 35
    _v2("an extra input", {"inputs": [tensor(), tensor("z")]}, 400, "UNKNOWN_INPUT", "'z'", field="inputs[1].name"),
    _v2("a duplicate input", {"inputs": [tensor(), tensor()]}, 400, "DUPLICATE_INPUT", "'x'", field="inputs[1].name"),
    _v2("another datatype", _only(datatype="FP64"), 400, "DATATYPE_MISMATCH", "FP32", "FP64", field="inputs[0].datatype"),  # 37
    _v2("no such datatype", _only(datatype="float"), 400, "DATATYPE_MISMATCH", "FP32"),
    _v2("no shape", _only(shape=None), 400, "INVALID_ARGUMENT", "shape", field="inputs[0]"),  # 38
    _v2("an empty shape", _only(shape=[]), 400, "SHAPE_MISMATCH", "[N, 2]", field="inputs[0].shape"),
    _v2("a negative dim", _only(shape=[-1, 2]), 400, "OUT_OF_RANGE", field="inputs[0].shape[0]"),
    _v2("a broken dim", _only(shape=[1, 1.5]), 400, "INVALID_ARGUMENT", field="inputs[0].shape[1]"),
    _v2("a dim in quotes", _only(shape=["1", 2]), 400, "INVALID_ARGUMENT", field="inputs[0].shape[0]"),
    _v2("a dim that is true", _only(shape=[True, 2]), 400, "INVALID_ARGUMENT", field="inputs[0].shape[0]"),
    _v2("a dim of 2^31", _only(shape=[2**31, 2]), 400, "OUT_OF_RANGE", field="inputs[0].shape[0]"),
    _v2("dims whose product overflows", _only(shape=[2**31 - 1, 2]), 413, "BATCH_TOO_LARGE", "8"),
    _v2("100,000 dims", _only(shape=[1] * 100_000), 400, "SHAPE_MISMATCH", field="inputs[0].shape"),
    _v2("one element less", _only(data=[1]), 400, "WRONG_SIZE", "2", "1", field="inputs[0].data"),  # 40
    _v2("one element more", _only(data=[1, 2, 3]), 400, "WRONG_SIZE", "2", "3", field="inputs[0].data"),
    _v2("ragged data", _only(data=[[1], [2, 3]]), 400, "RAGGED", field="inputs[0].data[1]"),
    _v2("no data", _only(data=None), 400, "MISSING_DATA", "data", field="inputs[0]"),
    _v2("data an object", _only(data={}), 400, "WRONG_TYPE", field="inputs[0].data"),
    _v2("true for a float", _only(data=[1, True]), 400, "WRONG_TYPE", field="inputs[0].data[1]"),
    _v2("1e39 for FP32", '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 1e39]}]}', 400, "OUT_OF_RANGE"),
    _v2("NaN", '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, NaN]}]}', 400, "BAD_JSON", "NaN", "offset: 75"),
    _v2("300 for UINT8", _only(datatype="UINT8", data=[1, 300]), 400, "OUT_OF_RANGE", model="u8", field="inputs[0].data[1]"),
    _v2(
        "one symbol, two sizes",
        {"inputs": [tensor("a", [2, 2], data=[1, 2, 3, 4]), tensor("b")]},
        400,
        "DIM_MISMATCH",
        "DIM_MISMATCH N",
        model="two",
        field="inputs[1].shape",
    ),  # 41
    _v2("BYTES that is a number", _only(datatype="BYTES", data=["a", 1]), 400, "WRONG_TYPE", model="text", field="inputs[0].data[1]"),  # 43
    _v2("an unknown output", _x(outputs=[{"name": "z"}]), 400, "UNKNOWN_OUTPUT", "'z'", "'y'", field="outputs[0].name"),  # 44
    _v2("a duplicate output", _x(outputs=[{"name": "y"}] * 2), 400, "DUPLICATE_OUTPUT", "'y'", field="outputs[1].name"),
    _v2("10,000 outputs", _x(outputs=[{"name": f"y{n}"} for n in range(10_000)]), 400, "UNKNOWN_OUTPUT"),
    _v2("an id of 257 characters", _x(id="i" * 257), 400, "BAD_ID", "256", field="id"),  # 46
    _v2("an id with a newline", _x(id="a\nb"), 400, "BAD_ID", field="id"),
    _v2("an id that is a number", _x(id=7), 400, "INVALID_ARGUMENT", field="id"),
    *(
        _v2(f"classification {k}", _x(outputs=[{"name": "y", "parameters": {"classification": k}}]), 400, "OUT_OF_RANGE", "classification")
        for k in (0, -1, 2**31, True, "1")  # 47
    ),
    _v2("a duplicate key", '{"inputs": [], "inputs": []}', 400, "DUPLICATE_KEY", field="inputs"),
    _v2("a duplicate shape", '{"inputs": [{"name":"x","shape":[9,9],"shape":[1,2],"datatype":"FP32","data":[1,2]}]}', 400, "DUPLICATE_KEY"),
    _v2("a duplicate parameter", '{"parameters": {"a": 1, "a": 2}, "inputs": []}', 400, "DUPLICATE_KEY", field="a"),
    _v2("a byte order mark", b"\xef\xbb\xbf" + json.dumps(_x()).encode(), 400, "BAD_ENCODING"),
    _v2("half a surrogate pair", _only(datatype="BYTES", data=["\ud800", ""]), 400, "BAD_ENCODING", model="text"),
    _v2("a timeout that is text", _x(parameters={"timeout": "1"}), 400, "WRONG_TYPE", field="parameters.timeout"),
    _v2("a negative priority", _x(parameters={"priority": -1}), 400, "WRONG_TYPE", field="parameters.priority"),
    _v2("binary_data_output that is text", _x(parameters={"binary_data_output": "yes"}), 400, "WRONG_TYPE"),
    _v2("an unknown model", _x(), 404, "NOT_FOUND", "unknown model", "nobody", model="nobody"),
    *(
        Row(f"v2 version {version}", f"/v2/models/m/versions/{version}/infer", json.dumps(_x()).encode(), 400, "BAD_VERSION", (version,))
        for version in ("0", "-1", "01", "9e9", "abc", "latest")
    ),
    Row("v2 version 7", "/v2/models/m/versions/7/infer", json.dumps(_x()).encode(), 404, "NOT_FOUND", ("version 7",)),
    *(
        Row(f"v2 {verb}", "/v2/models/m/infer", b"", 405, "WRONG_METHOD", ("POST", verb), method=verb)
        for verb in ("GET", "PUT", "DELETE", "TRACE")
    ),
    Row("v2 a path there is not", "/v2/nothing", b"", 404, "NOT_FOUND", ("/v2/nothing",), method="GET"),
)


def binary(body: dict[str, object], *tensors: bytes, length: str | None = None, status: int, code: str, title: str, **more: object) -> Row:
    head = json.dumps(body).encode()
    headers = {"Inference-Header-Content-Length": str(len(head)) if length is None else length}
    return _v2(f"binary {title}", b"".join((head, *tensors)), status, code, headers=headers, **more)


def sized(size: object, **more: object) -> dict[str, object]:
    """An infer request whose one input is binary."""
    return {"inputs": [tensor(data=None, parameters={"binary_data_size": size}, **more)]}  # type: ignore[arg-type]


_FLOATS = np.array([1, 2], "<f4").tobytes()
_TEXT: dict[str, object] = {"datatype": "BYTES"}

BINARY = (
    *(
        binary(sized(8), _FLOATS, length=length, status=400, code="BAD_HEADER_LENGTH", title=f"header length {length!r}")
        for length in ("-1", "abc", "99999999999", "1000", "+8", " 8", "0x10", "1_0", "9" * 5000, "")  # 50
    ),
    binary(sized(8), _FLOATS, length="0", status=400, code="WRONG_SIZE", title="header length 0 and a body of another size"),
    binary(sized(8), _FLOATS, length="10", status=400, code="BAD_JSON", title="a header length inside the JSON"),
    binary(sized(8), _FLOATS[:-1], status=400, code="SHORT_BODY", title="a byte too few"),  # 52
    binary(sized(8), _FLOATS, b"x", status=400, code="TRAILING_BYTES", title="a byte too many"),
    binary(sized(4), _FLOATS[:4], status=400, code="WRONG_SIZE", title="a size that is not the shape's"),
    binary(sized(-8), _FLOATS, status=400, code="WRONG_TYPE", title="a negative size"),
    binary(sized("8"), _FLOATS, status=400, code="WRONG_TYPE", title="a size in quotes"),
    binary(sized(True), _FLOATS, status=400, code="WRONG_TYPE", title="a size that is true"),
    binary(sized(2**70), _FLOATS, status=400, code="SHORT_BODY", title="a size of 2^70"),
    binary(
        sized(6, **_TEXT), struct.pack("<I", 9) + b"ab", model="text", status=400, code="BAD_BYTES", title="a length past the end"
    ),  # 53
    binary(sized(6, **_TEXT), b"\xff\xff\xff\xffab", model="text", status=400, code="BAD_BYTES", title="a length of 0xffffffff"),
    binary(sized(3, **_TEXT), b"\0\0\0", model="text", status=400, code="BAD_BYTES", title="half a length"),
    binary(sized(12, **_TEXT), bytes(12), model="text", status=400, code="BAD_BYTES", title="a string too many"),
    binary(sized(2, datatype="BOOL"), b"\1\2", model="flag", status=400, code="WRONG_TYPE", title="a BOOL of 2"),
    binary({"inputs": [tensor(parameters={"binary_data_size": 8})]}, _FLOATS, status=400, code="AMBIGUOUS_DATA", title="data twice"),  # 55
    _v2("binary size without a header", sized(8), 400, "SHORT_BODY"),
    *(
        _v2(f"shared memory {where}", body, 400, "UNSUPPORTED", "Shared memory")
        for where, body in (
            ("input", _only(data=None, parameters={"shared_memory_region": "r", "shared_memory_byte_size": 8})),  # 56
            ("output", _x(outputs=[{"name": "y", "parameters": {"shared_memory_region": "r"}}])),
            ("offset", _only(data=None, parameters={"shared_memory_offset": 0})),
        )
    ),
)


def _plain(title: str, body: bytes | str, status: int, code: str, *words: str, model: str = "m", **more: object) -> Row:
    raw = body.encode() if isinstance(body, str) else body
    more.setdefault("headers", {"Content-Type": "application/json"})
    return Row(f"predict {title}", f"/models/{model}/predict", raw, status, code, words, **more)  # type: ignore[arg-type]


_JSON_GZIP = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
_FORM = b'--b\r\nContent-Disposition: form-data; name="x"\r\n\r\n[1, 2]\r\n--b--\r\n'
_FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=b"}

PLAIN = (
    _plain("empty body", "", 400, "EMPTY_BODY"),
    _plain("an open brace", "{", 400, "BAD_JSON", "offset: 1"),
    _plain("no input", "{}", 400, "MISSING_INPUT", field="input"),
    _plain("trailing garbage", '{"input": [[1, 2]]} x', 400, "BAD_JSON", "offset: 20"),
    _plain("input an object", '{"input": {}}', 400, "WRONG_TYPE", field="input"),
    _plain("ragged", '{"input": [[1, 2], [3]]}', 400, "RAGGED", field="input[1]"),
    _plain("true", '{"input": [1, true]}', 400, "WRONG_TYPE", field="input[1]"),
    _plain("null", '{"input": [[1, null]]}', 400, "WRONG_TYPE", field="input[0][1]"),
    _plain("NaN", '{"input": [1, NaN]}', 400, "BAD_JSON", "NaN", "offset: 14"),  # 14
    _plain("Infinity", '{"input": [1, -Infinity]}', 400, "BAD_JSON", "offset: 14"),
    _plain("1e39", '{"input": [1, 1e39]}', 400, "OUT_OF_RANGE", field="input[1]"),
    _plain("300 for uint8", '{"input": [1, 300]}', 400, "OUT_OF_RANGE", model="u8", field="input[1]"),
    _plain("duplicate keys", '{"input": [1, 2], "input": [3, 4]}', 400, "DUPLICATE_KEY", field="input"),
    _plain("a byte order mark", b'\xef\xbb\xbf{"input": [1, 2]}', 400, "BAD_ENCODING"),
    _plain("rank too high", '{"input": [[[1, 2]]]}', 422, "SHAPE_MISMATCH", "[N, 2]", field="input"),
    _plain("a number", '{"input": 7}', 422, "SHAPE_MISMATCH", field="input"),
    _plain("an empty batch", '{"input": []}', 422, "SHAPE_MISMATCH", field="input"),
    _plain("a batch above the limit", json.dumps({"input": [[1, 2]] * 9}), 413, "BATCH_TOO_LARGE", "8"),
    _plain("a missing input", '{"input": {"a": [1, 2]}}', 400, "MISSING_INPUT", "'b'", model="two", field="input"),
    _plain("an extra input", '{"input": {"a": [1, 2], "b": [1, 2], "c": 1}}', 400, "UNKNOWN_INPUT", "'c'", model="two"),
    _plain("an item and a batch", '{"input": {"a": [1, 2], "b": [[1, 2]]}}', 422, "SHAPE_MISMATCH", model="two", field="input"),
    _plain("a gzip bomb", _bomb(31), 413, "BODY_TOO_LARGE", headers=_JSON_GZIP),
    _plain("zstd", "{}", 415, "UNSUPPORTED_ENCODING", headers={"Content-Type": "application/json", "Content-Encoding": "zstd"}),
    *(
        _plain(f"content type {value!r}", '{"input": [1, 2]}', 415, "UNSUPPORTED_MEDIA_TYPE", "application/json", headers=headers)
        for value, headers in (
            ("text/plain", {"Content-Type": "text/plain"}),  # 26
            ("xml", {"Content-Type": "application/xml"}),
            ("utf-7", {"Content-Type": "application/json;charset=utf-7"}),
        )
    ),
    _plain("a picture for numbers", b"\x89PNG\r\n\x1a\n", 415, "UNSUPPORTED_MEDIA_TYPE", "--preset", headers={"Content-Type": "image/png"}),
    _plain("a form without an end", _FORM[:-6], 400, "BAD_MULTIPART", headers=_FORM_TYPE),
    _plain("a form that is JSON", b'{"input": [1, 2]}', 400, "BAD_MULTIPART", "boundary", headers=_FORM_TYPE),
    _plain("a form without boundary", _FORM, 400, "BAD_MULTIPART", headers={"Content-Type": "multipart/form-data"}),
    _plain("a form without an input", _FORM.replace(b'"x"', b'"z"'), 400, "MISSING_INPUT", "'x'", headers=_FORM_TYPE),  # 88
    _plain("a form with a word", _FORM.replace(b"[1, 2]", b"many"), 400, "BAD_JSON", "number", headers=_FORM_TYPE, field="x"),
    _plain(
        "a form with a file for numbers", _FORM.replace(b'"x"', b'"x"; filename="../x"'), 415, "UNSUPPORTED_MEDIA_TYPE", headers=_FORM_TYPE
    ),  # 89
    Row("predict top 0", "/models/m/predict?top=0", b'{"input": [1, 2]}', 400, "OUT_OF_RANGE", field="top"),
    _plain("an unknown model", '{"input": [1, 2]}', 404, "NOT_FOUND", "nobody", model="nobody"),
    Row("predict several models", "/predict", b'{"input": [1, 2]}', 400, "MODEL_UNNAMED", headers={"Content-Type": "application/json"}),
    *(Row(f"predict {verb}", "/predict", b"", 405, "WRONG_METHOD", ("POST", verb), method=verb) for verb in ("GET", "PUT", "DELETE")),
    _plain(
        "base64 for a number", '{"input": [{"b64": "' + base64.b64encode(b"x").decode() + '"}, 1]}', 400, "WRONG_TYPE", field="input[0]"
    ),
)

ROWS = V1 + V2 + BINARY + PLAIN
