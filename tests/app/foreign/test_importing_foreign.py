"""A foreign source becomes a version only when what was made of it answers as it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_importer import Toy

import towline
from towline.app.importing import foreign as importing_foreign
from towline.app.importing.model import import_into
from towline.app.importing.sealing import ImportResult
from towline.convert.foreign import importers
from towline.convert.foreign.importers import Entry
from towline.core.errors import ImportRefused, UsageError
from towline.core.frames import decode_frame
from towline.core.walls import Walls
from towline.serve.workers.local import LocalWorker
from towline.store.sqlite import open_store
from towline.testing import tiny_models

Import = Callable[..., ImportResult]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def bring(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Import:
    """Import a toy: a real converter process, whose importer lies beside this test."""

    def launch(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(argv, pass_fds=pass_fds, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL)

    monkeypatch.setitem(importers.BUILT_IN, "torch", Entry("torch", "", "toy_importer:ToyImporter"))
    monkeypatch.setattr(importing_foreign, "launcher", lambda *, trust: launch)
    source = tmp_path / "toy.safetensors"
    source.write_bytes((16).to_bytes(8, "little") + b'{"toy": "weights"}')

    def run(**more: Any) -> ImportResult:
        return towline.import_model(more.pop("source", source), home=home, **more)

    return run


def versions(home: Path) -> list[str]:
    with open_store(home) as store:
        return [str(version) for version in store.versions()]


def test_what_answers_as_its_source_does_is_taken_and_says_where_it_came_from(bring: Import, home: Path):
    result = bring(options={"routes": "right"})

    manifest = result.version.manifest
    assert str(result.version) == "toy:1"
    assert manifest.engine == "onnxruntime"
    assert manifest.origin.format.startswith("safetensors")
    assert manifest.origin.tools["toy"] == "1.0"
    assert "It is a toy." in result.report.warnings
    assert towline.load("toy", home=home).predict(np.float32([[1, 2, 3]])).tolist() == [[2, 4, 6]]


def test_an_import_says_how_near_its_source_it_lies(bring: Import):
    said: list[str] = []

    bring(options={"routes": "wrong+right"}, progress=said.append)

    [equal] = [line for line in said if line.startswith("Equal")]
    assert equal.startswith("Equal to its source. y: max |Δ| 0 · mean 0 ")
    assert "requests, limit " in equal


def test_the_sources_own_answers_stay_with_the_version(bring: Import):
    version = bring().version

    kept = version.manifest.source_answers
    assert len(kept) > 3
    for one in kept:
        request, answer = (decode_frame((version.path / name).read_bytes()) for name in (one.request, one.response))
        np.testing.assert_array_equal(answer["y"], request["x"] * 2)
        assert one.bounds["y"].absolute > 0


def test_a_wrong_conversion_is_refused_and_nothing_is_left(bring: Import, home: Path):
    with pytest.raises(ImportRefused, match="does not answer as its source does: output 'y' differs") as refusal:
        bring(options={"routes": "wrong"})

    assert refusal.value.code == "NOT_EQUAL"
    assert versions(home) == []
    assert list((home / "staging").iterdir()) == []


def test_routes_are_tried_in_turn_and_the_report_tells_why_the_first_were_passed_over(bring: Import, home: Path):
    result = bring(options={"routes": "impossible+renamed+wrong+right"})

    told = [line for line in result.report.warnings if line.startswith("The route")]
    assert len(told) == 3
    assert "no edges" in told[0]
    assert "'input' (float32)" in told[1]
    assert "differs by up to" in told[2]
    with open_store(home) as store:
        event = next(event for event in store.events() if event.kind == "version.imported")
    assert [route["route"] for route in event.data["routes"]] == ["impossible", "renamed", "wrong", "right"]
    assert event.data["routes"][-1]["parity"]["serving_default"]["passed"] is True


def test_a_conversion_that_needs_nothing_forgiven_goes_before_one_that_does(bring: Import):
    warnings = bring(options={"load": "unsteady", "routes": "close+right"}).report.warnings

    assert "Made by way of right." in warnings
    assert "The route 'close' was not taken: it passed only with what rounding the input does to the source" in warnings
    assert not any("In 1 of" in line for line in warnings)


def test_where_none_needs_nothing_forgiven_the_first_is_taken_and_says_so_and_no_engine_goes_before_it(bring: Import):
    warnings = bring(options={"load": "unsteady", "routes": "close+engine"}).report.warnings

    assert "Made by way of close." in warnings
    assert "The route 'engine' was not taken: a conversion to ONNX passed" in warnings
    assert any(line.startswith("In 1 of ") and "no more than rounding the input" in line for line in warnings)


def test_each_signature_is_proven_and_served_from_a_file_of_its_own(bring: Import):
    version = bring(options={"two": "yes"}).version

    manifest = version.manifest
    assert manifest.signature_names == ("serving_default", "doubled")
    assert manifest.model_files == {"doubled": "signatures/0/model/model.onnx"}
    assert (version.path / manifest.model_files["doubled"]).is_file()


def test_of_two_signatures_one_that_is_wrong_is_enough_to_be_refused(bring: Import, home: Path):
    with pytest.raises(ImportRefused, match="does not answer"):
        bring(options={"two": "yes", "routes": "wrong"})


@pytest.mark.parametrize("route", ["escaping", "linked"])
def test_what_the_converter_writes_never_names_a_file_of_ours(bring: Import, home: Path, route: str):
    with pytest.raises(ImportRefused):
        bring(options={"routes": route})

    assert versions(home) == []


def test_a_source_that_its_framework_refuses_is_refused_in_its_words(bring: Import):
    with pytest.raises(ImportRefused, match="The toy is broken") as refusal:
        bring(options={"load": "refuse"})

    assert (refusal.value.code, refusal.value.hint) == ("BROKEN_TOY", "Mend it.")


def test_a_source_that_kills_its_converter_is_refused_with_its_last_words(bring: Import):
    with pytest.raises(ImportRefused, match=r"killed by SIGSEGV.*no more strength") as refusal:
        bring(options={"load": "die"})

    assert refusal.value.code == "CONVERTER_DIED"


def test_a_route_that_kills_the_converter_is_the_only_cause_told(bring: Import, home: Path):
    with pytest.raises(ImportRefused, match=r"^The process that reads the source was killed by SIGSEGV") as refusal:
        bring(options={"routes": "deadly+right"})

    assert refusal.value.code == "CONVERTER_DIED"
    assert versions(home) == []


def test_a_source_that_answers_nothing_asks_for_a_sample(bring: Import):
    with pytest.raises(ImportRefused, match="refused every input") as refusal:
        bring(options={"answer": "refuse"})

    assert "--sample" in refusal.value.hint


def test_the_same_source_with_the_same_options_is_stored_once(bring: Import, home: Path):
    first, again, other = bring(), bring(), bring(options={"two": "yes"})

    assert (first.existed, again.existed, other.existed) == (False, True, False)
    assert versions(home) == ["toy:2", "toy:1"]


def test_the_users_sample_is_what_is_compared(bring: Import, tmp_path: Path):
    np.save(tmp_path / "sample.npy", np.float32([[1, 2, 3], [4, 5, 6]]))

    version = bring(sample=tmp_path / "sample.npy").version

    first = version.manifest.source_answers[0]
    np.testing.assert_array_equal(decode_frame((version.path / first.request).read_bytes())["x"], [[1, 2, 3], [4, 5, 6]])


def test_a_source_that_knows_what_it_was_made_for_is_tried_with_that(bring: Import):
    version = bring(options={"knows": "sevens"}).version

    kept = [decode_frame((version.path / one.request).read_bytes())["x"] for one in version.manifest.source_answers]
    golden = decode_frame((version.path / version.manifest.golden[0].request).read_bytes())["x"]
    assert all((array == 7).all() for array in (*kept, golden))


def test_examples_that_do_not_fit_the_signature_are_refused(bring: Import):
    with pytest.raises(ImportRefused, match=r"has shape \[2, 4\]"):
        bring(options={"knows": "too much"})


def test_an_onnx_file_is_proven_against_what_it_was_converted_from(bring: Import, tmp_path: Path, home: Path):
    source = tmp_path / "toy.safetensors"
    Toy({}).convert("right", tmp_path)
    right = (tmp_path / "serving_default.onnx").rename(tmp_path / "right.onnx")
    Toy({}).convert("wrong", tmp_path)
    wrong = (tmp_path / "serving_default.onnx").rename(tmp_path / "wrong.onnx")

    proven = bring(source=right, against=source, options={"routes": "right"})
    with pytest.raises(ImportRefused, match="does not answer as its source"):
        bring(source=wrong, against=source)

    assert proven.version.manifest.source_answers
    assert "proven against" in proven.version.manifest.origin.format
    assert versions(home) == ["right:1"]


def test_options_without_a_source_to_convert_are_refused(bring: Import, tmp_path: Path):
    model = tiny_models.write(tmp_path, tiny_models.identity(), "same.onnx")

    for words in ({"tolerance": 1e-6}, {"trust_this_file": True}):
        with pytest.raises(UsageError, match="nothing to tell a converter"):
            bring(source=model, **words)


def test_that_a_file_is_vouched_for_is_said_in_one_way_and_reaches_its_importer(bring: Import):
    with pytest.raises(UsageError, match="no option 'trust'") as refusal:
        bring(options={"trust": "yes"})
    assert "--trust-this-file" in refusal.value.hint

    assert "Somebody vouches for it." in bring(options={"load": "ask"}, trust_this_file=True).report.warnings


@pytest.mark.parametrize(
    ("raw", "code"),
    [(b"7z\xbc\xaf\x27\x1c\0\4", "ARCHIVE"), (b"not a model\n", "PLAIN_TEXT"), (b"", "EMPTY_FILE")],
    ids=["7z", "text", "empty"],
)
def test_what_is_no_model_at_all_is_told_before_what_was_said_of_it(bring: Import, tmp_path: Path, raw: bytes, code: str):
    (tmp_path / "given").write_bytes(raw)

    with pytest.raises(ImportRefused, match="'given' is") as refusal:
        bring(source=tmp_path / "given", input="float32[N,4]")

    assert refusal.value.code == code


def test_what_a_client_sent_is_never_converted(bring: Import, tmp_path: Path, home: Path):
    with open_store(home) as store, pytest.raises(ImportRefused, match="weights only"):
        import_into(store, tmp_path / "toy.safetensors", name="toy", actor="a client", start_worker=LocalWorker.start, may_convert=False)


def test_an_exporters_own_names_do_not_stand_in_the_way_of_proof(bring: Import, tmp_path: Path):
    source = tmp_path / "toy.safetensors"
    Toy({}).convert("right", tmp_path)
    import onnx

    model = onnx.load(tmp_path / "serving_default.onnx")
    model.graph.node[0].input[0] = model.graph.input[0].name = "serving_default_x:0"
    model.graph.node[0].output[0] = model.graph.output[0].name = "Identity:0"
    onnx.save(model, tmp_path / "mine.onnx")

    version = bring(source=tmp_path / "mine.onnx", against=source).version

    kept = version.manifest.source_answers[0]
    assert set(kept.bounds) == {"Identity:0"}
    assert set(decode_frame((version.path / kept.request).read_bytes())) == {"serving_default_x:0"}
