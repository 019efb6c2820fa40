"""Copying a model: fresh plain files, nothing from outside its folder, and one clear line for whatever is no model."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from towline.convert.files import Copied, copy_source
from towline.core.errors import ImportRefused
from towline.testing import tiny_models

SECRET = b"\x01" * 64


NOBODY = 65534


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    folder = tmp_path / "staged"
    folder.mkdir()
    return folder


def refusal(source: Path, staged: Path, **options) -> ImportRefused:
    with pytest.raises(ImportRefused) as caught:
        copy_source(source, staged, **options)
    assert "\n" not in caught.value.message
    assert str(source.parent) not in caught.value.message
    return caught.value


# Four places a model may keep a tensor, and seven ways of pointing out of its folder.


def _in_initializer(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.initializer.append(tensor)


def _in_constant(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _in_sparse(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    indices = numpy_helper.from_array(np.arange(16), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(tensor, indices, [16]))


def _in_subgraph(model: onnx.ModelProto, tensor: onnx.TensorProto) -> None:
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=tensor)], "inner", [], [helper.make_tensor_value_info("c", 1, [16])]
    )
    outer = helper.make_graph(
        [helper.make_node("If", ["on"], ["d"], then_branch=inner, else_branch=inner)],
        "outer",
        [],
        [helper.make_tensor_value_info("d", 1, [16])],
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "on"))
    model.graph.node.append(helper.make_node("If", ["on"], ["e"], then_branch=outer, else_branch=outer))


PLACES = {"initializer": _in_initializer, "constant": _in_constant, "sparse": _in_sparse, "subgraph": _in_subgraph}


def _symlink(folder: Path, secret: Path) -> str:
    (folder / "link.bin").symlink_to(secret)
    return "link.bin"


def _hard_link(folder: Path, secret: Path) -> str:
    (folder / "hard.bin").hardlink_to(secret)
    return "hard.bin"


def _linked_folder(folder: Path, secret: Path) -> str:
    (folder / "inside").symlink_to(secret.parent)
    return f"inside/{secret.name}"


def _nested_parent(folder: Path, secret: Path) -> str:
    (folder / "sub").mkdir()
    return f"sub/../../{secret.parent.name}/{secret.name}"


LOCATIONS = {
    "parent": (lambda folder, secret: f"../{secret.parent.name}/{secret.name}", "EXTERNAL_DATA_OUTSIDE"),
    "absolute": (lambda folder, secret: str(secret), "EXTERNAL_DATA_OUTSIDE"),
    "nested parent": (_nested_parent, "EXTERNAL_DATA_OUTSIDE"),
    "symlink": (_symlink, "EXTERNAL_DATA_LINK"),
    "symlinked folder": (_linked_folder, "EXTERNAL_DATA_LINK"),
    "hard link": (_hard_link, "EXTERNAL_DATA_HARD_LINK"),
    "parent of nothing": (lambda folder, secret: "..", "EXTERNAL_DATA_OUTSIDE"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("location", LOCATIONS)
def test_no_tensor_in_any_place_reaches_out_of_the_models_folder(source, staged, tmp_path, place, location):
    outside = tmp_path / "outside"
    outside.mkdir()
    secret = outside / "secret.bin"
    secret.write_bytes(SECRET)
    point, code = LOCATIONS[location]
    tensor = numpy_helper.from_array(np.zeros(16, np.float32), "w")
    tiny_models.refer_outside(tensor, point(source, secret))
    model = onnx.load_from_string(tiny_models.mlp())
    PLACES[place](model, tensor)

    caught = refusal(tiny_models.write(source, model.SerializeToString()), staged)

    assert caught.code == code
    assert "'w'" in caught.message
    assert SECRET not in b"".join(path.read_bytes() for path in staged.rglob("*") if path.is_file())


@pytest.mark.parametrize("place", PLACES)
def test_external_data_in_any_place_comes_along(source, staged, place):
    tensor = numpy_helper.from_array(np.zeros(16, np.float32), "w")
    tiny_models.refer_outside(tensor, "weights.bin")
    model = onnx.load_from_string(tiny_models.mlp())
    PLACES[place](model, tensor)
    (source / "weights.bin").write_bytes(SECRET)

    copied = copy_source(tiny_models.write(source, model.SerializeToString()), staged)

    assert [file.name for file in copied.files] == ["model/model.onnx", "model/weights.bin"]


@pytest.mark.parametrize(
    "location",
    ["", "/", "a//b", "C:\\w.bin", "a\\b", "a\nb", "a\0b", "a/..", "x" * 2000, "\u202egnp.bin", "./..", "."],
)
def test_a_location_that_is_no_plain_path_is_refused_before_anything_is_opened(source, staged, location):
    caught = refusal(tiny_models.external(source, location=location), staged)

    assert caught.code == "EXTERNAL_DATA_OUTSIDE"
    assert len(caught.message) < 300
    assert caught.message.isprintable()


@pytest.mark.parametrize(
    ("entries", "payload", "code"),
    [
        ({}, b"", "OK"),
        ({"length": "64"}, b"\0" * 64, "OK"),
        ({"length": "64"}, b"\0" * 63, "EXTERNAL_DATA_SHORT"),
        ({"offset": "1", "length": "64"}, b"\0" * 64, "EXTERNAL_DATA_SHORT"),
        ({"offset": "65"}, b"\0" * 64, "EXTERNAL_DATA_SHORT"),
        ({"length": str(2**63 - 1)}, b"\0" * 64, "EXTERNAL_DATA_SHORT"),
        ({"length": str(2**64)}, b"\0" * 64, "EXTERNAL_DATA_ENTRY"),
        ({"offset": "-1"}, b"\0" * 64, "EXTERNAL_DATA_ENTRY"),
        ({"offset": "1e3"}, b"\0" * 64, "EXTERNAL_DATA_ENTRY"),
        ({"length": "٣"}, b"\0" * 64, "EXTERNAL_DATA_ENTRY"),
    ],
)
def test_offset_and_length_must_lie_within_the_file(source, staged, entries, payload, code):
    path = tiny_models.external(source, payload=payload, **entries)

    if code == "OK":
        assert len(copy_source(path, staged).files) == 2
    else:
        assert refusal(path, staged).code == code


def test_two_locations_in_one_tensor_are_refused(source, staged):
    model = onnx.load(tiny_models.external(source), load_external_data=False)
    model.graph.initializer[0].external_data.add(key="location", value="../x")

    assert refusal(tiny_models.write(source, model.SerializeToString()), staged).code == "EXTERNAL_DATA_ENTRY"


def test_a_plain_sub_path_is_copied_as_it_stands(source, staged):
    (source / "data").mkdir()
    (source / "data" / "weights.bin").write_bytes(b"\0" * 64)

    copied = copy_source(tiny_models.external(source, location="./data/weights.bin"), staged)

    assert (staged / "model" / "data" / "weights.bin").read_bytes() == b"\0" * 64
    assert copied.files[1].name == "model/data/weights.bin"


def test_external_data_called_as_the_model_itself_is_refused(source, staged):
    path = tiny_models.external(source, location="model.onnx", name="other.onnx")

    assert refusal(path, staged).code == "EXTERNAL_DATA_NAME"


@pytest.mark.parametrize(("make", "code"), [(os.mkfifo, "EXTERNAL_DATA_NOT_A_FILE"), (os.mkdir, "EXTERNAL_DATA_NOT_A_FILE")])
def test_external_data_that_is_no_file_is_refused_and_nobody_waits(source, staged, make, code):
    path = tiny_models.external(source)
    (source / "weights.bin").unlink()
    make(source / "weights.bin")

    assert refusal(path, staged).code == code


def test_missing_external_data_names_tensor_and_file(source, staged):
    path = tiny_models.external(source)
    (source / "weights.bin").unlink()

    caught = refusal(path, staged)

    assert caught.code == "EXTERNAL_DATA_MISSING"
    assert caught.message == "The external data of tensor 'w', 'weights.bin', is not beside the model."


def test_a_copy_is_a_fresh_plain_file_with_the_digest_of_its_bytes(source, staged):
    path = tiny_models.write(source, tiny_models.mlp(), "Digits v1.onnx")

    copied = copy_source(path, staged)

    copy = staged / copied.model_file
    assert copied == Copied(staged, "model/model.onnx", copied.files, "Digits v1.onnx")
    assert copy.stat().st_ino != path.stat().st_ino
    assert stat.S_ISREG(copy.lstat().st_mode)
    assert copy.stat().st_nlink == 1
    assert copied.source_digest == "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    assert copied.size_bytes == path.stat().st_size


def test_the_source_digest_covers_external_data(source, tmp_path):
    digests = set()
    for number, payload in enumerate((b"\0" * 64, b"\1" * 64)):
        staged = tmp_path / str(number)
        staged.mkdir()
        digests.add(copy_source(tiny_models.external(source, payload=payload), staged).source_digest)

    assert len(digests) == 2


def test_the_model_itself_may_be_reached_through_a_link_as_caches_keep_it(source, staged):
    real = tiny_models.write(source, tiny_models.mlp(), "blob")
    (source / "model.onnx").symlink_to(real)

    assert (staged / copy_source(source / "model.onnx", staged).model_file).read_bytes() == real.read_bytes()


def test_what_is_no_plain_file_gets_one_clear_line(source, staged):
    os.mkfifo(source / "pipe")
    (source / "sub").mkdir()
    for path, code, words in (
        (source / "pipe", "NOT_A_FILE", "is a pipe"),
        (source / "sub", "NOT_A_FILE", "is a folder"),
        (Path("/dev/zero"), "NOT_A_FILE", "is a device"),
        (source / "absent.onnx", "NO_SUCH_FILE", "There is no file 'absent.onnx'"),
        (source / "absent" / "x.onnx", "NO_SUCH_FILE", "There is no file"),
        (Path("a\0b"), "NO_SUCH_FILE", r"There is no file 'a\x00b'"),
    ):
        with pytest.raises(ImportRefused, match=words.replace("\\", "\\\\")) as caught:
            copy_source(path, staged)
        assert caught.value.code == code
        (staged / "model").rmdir()


def test_a_folder_tells_which_models_it_holds(source, staged):
    tiny_models.write(source, tiny_models.mlp(), "a.onnx")
    assert refusal(source, staged).hint == "It holds 'a.onnx': give the path of one."

    (staged / "model").rmdir()
    (source / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    assert refusal(source, staged).code == "SAVED_MODEL"


def test_an_unreadable_file_is_named():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = tiny_models.write(folder, tiny_models.mlp())
        path.chmod(0)
        (folder / "staged").mkdir()
        for own in (folder, folder / "staged"):
            os.chown(own, NOBODY, -1) if not os.geteuid() else None
        child = os.fork()
        if not child:
            # Root may read everything; nobody may not.
            os.geteuid() or os.seteuid(NOBODY)
            os._exit(0 if refusal(path, folder / "staged").code == "NOT_READABLE" else 1)

        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_source_that_changes_meanwhile_is_noticed(source, staged, monkeypatch):
    path = tiny_models.write(source, tiny_models.mlp())
    real_read = os.read
    writer = path.open("ab")

    def read_while_another_writes(descriptor, size):
        chunk = real_read(descriptor, size)
        writer.write(b"more")
        writer.flush()
        return chunk

    monkeypatch.setattr(os, "read", read_while_another_writes)

    assert refusal(path, staged).code == "SOURCE_CHANGED"
    writer.close()


def test_a_source_rewritten_in_place_is_noticed_by_its_time(source, staged, monkeypatch):
    path = tiny_models.write(source, tiny_models.mlp())
    os.utime(path, (1, 1))
    real_read = os.read

    def read_while_another_rewrites(descriptor, size):
        path.write_bytes(tiny_models.mlp())
        return real_read(descriptor, size)

    monkeypatch.setattr(os, "read", read_while_another_rewrites)

    assert refusal(path, staged).code == "SOURCE_CHANGED"


def test_a_total_beyond_the_limit_is_refused_by_size(source, staged):
    path = tiny_models.external(source, payload=b"\0" * 5000)

    caught = refusal(path, staged, max_bytes=4000)

    assert caught.code == "TOO_LARGE"
    assert "'weights.bin' has 5000 bytes" in caught.message


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9])
def test_a_torn_file_is_refused_by_name(source, staged, share):
    whole = tiny_models.mlp()
    torn = whole[: int(len(whole) * share)]

    caught = refusal(tiny_models.write(source, torn), staged)

    assert caught.code == "TORN_FILE"
    assert f"it has {len(torn)} bytes and needs at least" in caught.message


def test_a_file_that_lacks_only_its_last_byte_is_torn_too(source, staged):
    assert refusal(tiny_models.write(source, tiny_models.mlp()[:-1]), staged).code == "TORN_FILE"


def test_control_characters_in_names_are_escaped_in_messages(source, staged):
    model = onnx.load(tiny_models.external(source), load_external_data=False)
    model.graph.initializer[0].name = "w\x1b[31m\n"
    (source / "weights.bin").unlink()

    caught = refusal(tiny_models.write(source, model.SerializeToString()), staged)

    assert r"tensor 'w\x1b[31m\n'" in caught.message
