"""Each of four ways to convert a model wrongly is refused with its cause, whoever converted it."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import towline
from towline.app.importing import foreign as importing_foreign
from towline.app.importing.sealing import ImportResult
from towline.cli.group import cli
from towline.convert.foreign import importers
from towline.convert.foreign.importers import Entry
from towline.core.errors import ImportRefused, UsageError
from towline.core.frames import decode_frame
from towline.core.walls import Walls
from towline.store.sqlite import open_store
from towline.testing import tiny_models

WRONG = {
    "wrong epsilon": ({"epsilon": 1e-5}, "departs is 'bn1' (BatchNorm2d)", "its epsilon looks wrong"),
    "lost batch norm": ({"batch_norm": False}, "departs is 'bn2' (BatchNorm2d)", "it is lost in the conversion"),
    "truncated weights": ({"kept": 0.5}, "The last 50 % of weight 'conv2.weight' are zeros", "truncated"),
    "swapped channels": ({"swapped": True}, "expects the channels in the other order (RGB against BGR) in input 'image'", "given so"),
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def proven(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImportResult]:
    """Import a conversion of `convolutions`: given with --against, or as what a route made."""

    def launch(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls) -> subprocess.Popen[bytes]:
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        return subprocess.Popen(argv, pass_fds=pass_fds, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.DEVNULL)

    monkeypatch.setitem(importers.BUILT_IN, "torch", Entry("torch", "", "net_importer:NetImporter"))
    monkeypatch.setattr(importing_foreign, "launcher", lambda *, trust: launch)
    source = tmp_path / "net.safetensors"
    source.write_bytes((8).to_bytes(8, "little") + b'{"a": 1}' + tiny_models.convolutions())

    def run(*, by_route: bool, more: Mapping[str, Any] | None = None, **change: Any) -> ImportResult:
        graph = tiny_models.convolutions(**change)
        if by_route:
            return towline.import_model(source, home=home, options={"converted": base64.b64encode(graph).decode()})
        converted = tiny_models.write(tmp_path, graph, "converted.onnx")
        return towline.import_model(converted, home=home, against=source, **(more or {}))

    return run


def shown(words: list[str], *said: str) -> bool:
    """Whether the command line says all of that."""
    ran = CliRunner().invoke(cli, words)
    assert ran.exit_code == 0, ran.output
    return all(" ".join(line.split()) in " ".join(ran.stdout.split()) for line in said)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_conversion_is_refused_with_its_cause_and_what_shows_it(proven, home, what):
    change, where, said = WRONG[what]

    with pytest.raises(ImportRefused, match="does not answer as its source does: output 'y' differs") as refusal:
        proven(by_route=False, **change)

    assert where in refusal.value.message
    assert said in refusal.value.message
    with open_store(home) as store:
        assert list(store.versions()) == []
    (kept,) = (home / "refused").iterdir()
    assert f"refused/{kept.name}" in refusal.value.hint
    with np.load(kept, allow_pickle=False) as arrays:
        assert set(arrays.files) == {"request/image", "source/y", "conversion/y"}
        assert np.abs(arrays["source/y"] - arrays["conversion/y"]).max() > 1e-5


def test_a_routes_own_wrong_conversion_is_looked_for_in_the_layers_it_names(proven):
    with pytest.raises(ImportRefused) as refusal:
        proven(by_route=True, batch_norm=False)

    assert "departs is 'bn2' (BatchNorm2d): it has no counterpart in the conversion; 'conv2' still agrees" in refusal.value.message


def test_a_right_conversion_by_the_user_is_taken_and_measured_on_his_samples_and_labelled_rows(proven, home, tmp_path):
    rng = np.random.default_rng(0)
    samples = tmp_path / "samples"
    samples.mkdir()
    for number in range(3):
        np.save(samples / f"{number}.npy", rng.normal(0, 1, (1, 3, 8, 8)))
    np.savez(tmp_path / "data.npz", image=rng.normal(0, 1, (70, 3, 8, 8)), labels=rng.integers(0, 4, 70))

    result = proven(by_route=False, more={"data": tmp_path / "data.npz", "sample": samples, "name": "net"})

    (note,) = (line for line in result.report.warnings if "labelled rows" in line)
    assert note.startswith("On 70 labelled rows, by output 'y': accuracy 0.")
    assert shown(
        ["show", "net", "--home", str(home)], "parity       serving_default y: max |Δ|", "parity       accuracy of y on 70 labelled rows"
    )
    page = tmp_path / "page.html"
    assert shown(["show", "net", "--home", str(home), "--html", str(page), "--json"], '"labelled"')
    assert "<circle" in page.read_text()
    assert "BatchNormalization" in page.read_text()
    kept = result.version.manifest.source_answers[2]
    request = decode_frame((result.version.path / kept.request).read_bytes())
    assert np.array_equal(request["image"], np.load(samples / "2.npy").astype(np.float32))


def test_data_without_labels_is_refused_before_anything_is_converted(proven, home, tmp_path):
    np.savez(tmp_path / "data.npz", image=np.zeros((2, 3, 8, 8)))

    with pytest.raises(UsageError, match=r"'data\.npz' has no labels"):
        proven(by_route=False, more={"data": tmp_path / "data.npz"})
