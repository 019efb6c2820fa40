"""From TorchServe: archives with a stock handler become versions; `/predictions` answers the clients that TorchServe had."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import requests
from command_line import TOWLINE, Run
from PIL import Image

from towline.app.home import opened_store
from towline.convert.migrate.torchserve import numbers_for
from towline.testing import tiny_models
from towline.testing.server import RunningServer

LABELS = {"0": ["n00", "red"], "1": ["n01", "green"], "2": ["n02", "blue"]}
CONFIG = """\
# As TorchServe writes it.
inference_address=http://0.0.0.0:9080
management_address: http://127.0.0.1:9081
load_models=all
model_store=/home/model-server/model-store
default_response_timeout=90
job_queue_size = 200
keystore_pass=changeit
models={\\
  "colour": {\\
    "1.0": {\\
        "defaultVersion": true,\\
        "marName": "colour.mar",\\
        "batchSize": 4,\\
        "responseTimeout": 30\\
    }\\
  }\\
}
"""


def mar(
    path: Path, handler: str = "image_classifier", version: str = "1.0", *, files: dict[str, bytes] | None = None, **manifest: object
) -> Path:
    """An archive as torch-model-archiver makes it; the model is ONNX, which TorchServe's own handlers take as well."""
    model = {"modelName": path.stem, "serializedFile": "model.onnx", "handler": handler, "modelVersion": version, **manifest}
    content = {
        "MAR-INF/MANIFEST.json": json.dumps(
            {"createdOn": "01/01/2025 00:00:00", "runtime": "python", "model": model, "archiverVersion": "0.12.0"}
        ).encode(),
        "model.onnx": tiny_models.mean_colour(height=224, width=224),
        "index_to_name.json": json.dumps(LABELS).encode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in {**content, **(files or {})}.items():
            archive.writestr(name, raw)
    return path


@pytest.fixture(scope="module")
def picture() -> bytes:
    """Mostly green, and larger than what the model takes."""
    pixels = np.random.default_rng(0).integers(0, 80, (300, 400, 3), np.uint8)
    pixels[:, :, 1] += 150
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchserve")
    mar(folder / "store" / "colour.mar")
    mar(folder / "store" / "pixels.mar", "image_segmenter", files={"model.onnx": pixel_scores()})
    mar(folder / "store" / "bare.mar", "base_handler", files={"model.onnx": tiny_models.mlp()})
    (folder / "config.properties").write_text(CONFIG)
    words = ["--model-store", folder / "store", "--config", folder / "config.properties", "--home", folder / "home", "--into", folder]
    flags = ["torchserve", "--start", "--ncs", "--models", "all", "--disable-token-auth"]
    command = [*TOWLINE, "migrate", "torchserve", *map(str, words), "--", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def pixel_scores() -> bytes:
    """x [N, 3, 224, 224] -> y [N, 3, 14, 14]: how much of each colour a place has, as scores of three classes."""
    pooled = [tiny_models.node("AveragePool", ["x"], ["y"], kernel_shape=[16, 16], strides=[16, 16])]
    return tiny_models.make_model(pooled, [("x", "float32", ("N", 3, 224, 224))], [("y", "float32", ("N", 3, 14, 14))])


def prepared(picture: bytes) -> np.ndarray:
    """What torchvision's transforms of TorchServe's handlers make of it: [1, 3, 224, 224]."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    width, height = image.size
    scale = 256 / min(width, height)
    image = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = round((image.width - 224) / 2), round((image.height - 224) / 2)
    x = np.asarray(image.crop((left, top, left + 224, top + 224)), np.float32) / 255
    return ((x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32).transpose(2, 0, 1)[None]


def expected(picture: bytes) -> dict[str, float]:
    """What TorchServe's image_classifier answers: softmax, top 5, names."""
    x = prepared(picture)
    logits = onnxruntime.InferenceSession(tiny_models.mean_colour(height=224, width=224)).run(None, {"x": x})[0][0]
    scores = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    return {LABELS[str(place)][1]: float(scores[place]) for place in np.argsort(-scores)}


def test_clients_of_the_old_server_get_the_same_answers_from_the_new_one(migrated: Path, picture: bytes) -> None:
    settings = tomllib.loads((migrated / "towline.toml").read_text()) | {"port": 0, "grpc_port": 0}

    with RunningServer(home=migrated / "home", settings=settings) as server:
        url = f"http://127.0.0.1:{server.port}"
        answers = {
            "a raw body": requests.post(f"{url}/predictions/colour", data=picture, timeout=300),
            "curl -T": requests.put(f"{url}/predictions/colour", data=picture, timeout=300),
            "a wrong type": requests.post(
                f"{url}/predictions/colour/1.0", data=picture, headers={"Content-Type": "image/jpeg"}, timeout=300
            ),
            "a form": requests.post(f"{url}/predictions/colour", files={"data": picture}, timeout=300),
        }
        pixels = requests.post(f"{url}/predictions/pixels", data=picture, timeout=300)
        ping = requests.get(f"{url}/ping", timeout=300)
        nobody = requests.post(f"{url}/predictions/nobody", data=picture, timeout=300)
        no_version = requests.post(f"{url}/predictions/colour/2.0", data=picture, timeout=300)
        no_picture = requests.post(f"{url}/predictions/colour", data=b"hello", timeout=300)
        tensors = requests.post(f"{url}/v1/models/bare:predict", json={"instances": [[0.25] * 10]}, timeout=300)
        no_part = requests.post(f"{url}/predictions/colour", files={"one": picture, "two": picture}, timeout=300)

    want = expected(picture)
    assert next(iter(want)) == "green"
    for how, answer in answers.items():
        assert answer.status_code == 200, (how, answer.text)
        assert list(answer.json()) == list(want)
        np.testing.assert_allclose(list(answer.json().values()), list(want.values()), rtol=1e-3)
    scores = np.exp(prepared(picture)[0].reshape(3, 14, 16, 14, 16).mean(axis=(2, 4), dtype=np.float64))
    np.testing.assert_array_equal(np.array(pixels.json())[..., 0], scores.argmax(axis=0))
    np.testing.assert_allclose(np.array(pixels.json())[..., 1], (scores / scores.sum(axis=0)).max(axis=0), rtol=1e-4)
    assert ping.json() == {"status": "Healthy"}
    assert nobody.json() == {"code": 404, "type": "ModelNotFoundException", "message": "Model not found: nobody"}
    assert (no_version.status_code, no_version.json()["type"]) == (404, "ModelVersionNotFoundException")
    assert (no_picture.status_code, no_picture.json()["type"]) == (400, "BadRequestException")
    assert no_part.status_code == 400
    (row,) = onnxruntime.InferenceSession(tiny_models.mlp()).run(None, {"x": np.full((1, 10), 0.25, np.float32)})[0]
    np.testing.assert_allclose(tensors.json()["predictions"], [row], rtol=1e-4)


def test_properties_and_flags_have_rows_and_secrets_are_not_repeated(migrated: Path) -> None:
    page = (migrated / "MIGRATION.md").read_text()

    settings = tomllib.loads((migrated / "towline.toml").read_text())
    assert settings == {"compat": "torchserve", "port": 9080, "request_timeout_s": 90, "max_waiting_requests": 200}
    for word in (
        "`inference_address`",
        "`management_address`",
        "`keystore_pass`",
        "`models`",
        "`--ncs`",
        "`--models`",
        "Version 1.0 is 1 here",
    ):
        assert word in page
    assert "changeit" not in page
    with opened_store(migrated / "home") as store:
        deployed = next(one for one in store.deployments() if one.name == "colour")
    assert deployed.limits.timeout_s == 30


def test_running_it_again_finds_what_was_there(towline: Run, migrated: Path) -> None:
    done = towline("migrate", "torchserve", "--model-store", migrated / "store", "--home", migrated / "home", "--json")

    assert [one["state"] for model in done.json()["models"] for one in model["versions"]] == ["existed"] * 3


NOT_IMPORTED = {
    "a custom handler": ({"handler": "my_handler.py:handle"}, "is code of its own", "towline serve handler.py:Class"),
    "an object detector": ({"handler": "object_detector"}, "'object_detector' has no counterpart", "write a handler"),
    "a text classifier": ({"handler": "text_classifier"}, "has no counterpart", "write a handler"),
    "no model": ({"serializedFile": ""}, "no serialized model", ""),
    "a file elsewhere": ({"serializedFile": "../../model.onnx"}, "outside the archive", ""),
    "a number for a name": ({"handler": 3}, "'handler' of MAR-INF/MANIFEST.json is no text", ""),
    "a name that ours cannot be": ({"modelName": "my model"}, "cannot name a model", ""),
    "a manifest that is a list": ({"files": {"MAR-INF/MANIFEST.json": b"[]"}}, "is no JSON object", ""),
    "no manifest": ({"files": {"MAR-INF/MANIFEST.json": b""}}, "is no JSON", ""),
    "a hostile name": ({"files": {"../../out": b"x"}}, "outside its own folder", "unpacked folder"),
}


@pytest.mark.parametrize("case", NOT_IMPORTED)
def test_an_archive_that_cannot_come_over_is_told_with_what_to_do_beside_the_others(case: str, towline: Run, tmp_path: Path) -> None:
    manifest, reason, hint = NOT_IMPORTED[case]
    mar(tmp_path / "store" / "m.mar", **manifest)  # type: ignore[arg-type]
    mar(tmp_path / "store" / "other.mar")

    done = towline("migrate", "torchserve", "--model-store", tmp_path / "store", "--dry-run")

    assert done.code == 1
    assert reason in done.out
    assert hint in done.out
    assert "other:1" in done.out


LATER = {
    "labels that leave one out": ({"index_to_name.json": b'{"0": "red", "2": "blue"}'}, "does not name the classes"),
    "labels that are numbers": ({"index_to_name.json": b'{"0": 1, "1": 2, "2": 3}'}, "does not name the classes"),
    "a torn model": ({"model.onnx": tiny_models.mean_colour()[:60]}, "is torn"),
    "code of two classes": ({"model.py": b"class A: pass\nclass B: pass\n"}, "must define one class"),
    "code that is none": ({"model.py": b"class A(:"}, "is no Python"),
}


@pytest.mark.parametrize("case", LATER)
def test_what_is_wrong_inside_an_archive_is_told_and_leaves_nothing(case: str, towline: Run, tmp_path: Path, home: Path) -> None:
    files, reason = LATER[case]
    mar(tmp_path / "store" / "m.mar", files=files, **({"modelFile": "model.py"} if "model.py" in files else {}))

    done = towline("migrate", "torchserve", "--model-store", tmp_path / "store")

    assert done.code == 1
    assert reason in done.out
    with opened_store(home) as store:
        assert store.names() == ()


BAD_CONFIGS = {
    "an unknown property": (
        "inference_adress=http://127.0.0.1:8080",
        "line 1: TorchServe has no property 'inference_adress'",
        "inference_address",
    ),
    "a property twice": ("job_queue_size=1\njob_queue_size=2", "line 2: 'job_queue_size' stands in line 1", ""),
    "no number": ("job_queue_size=many", "must be a whole number", ""),
    "no JSON": ("models={,}", "'models' is no JSON", "backslash"),
    "models that are none": ("models=[1]", "'models' is no object", ""),
    "no address": ("inference_address=http://127.0.0.1:x", "is no address", ""),
    "a bad escape": ("vmargs=\\u12", "line 1: \\u is followed", ""),
    "no pair": ("=3", "is no property", ""),
    "an archive that is fetched": ("load_models=https://example.org/a.mar", "no file of the model store", "Fetch"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_configuration_that_cannot_be_read_is_refused_by_its_line(case: str, towline: Run, tmp_path: Path) -> None:
    text, reason, hint = BAD_CONFIGS[case]
    mar(tmp_path / "store" / "m.mar")
    (tmp_path / "config.properties").write_text(text)

    done = towline("migrate", "torchserve", "--model-store", tmp_path / "store", "--config", tmp_path / "config.properties")

    assert done.code == 2
    assert reason in done.err
    assert hint in done.err
    assert list(Path.cwd().iterdir()) == []


def test_the_archives_that_were_named_are_taken_under_the_names_they_were_given(towline: Run, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        mar(tmp_path / "store" / f"{name}.mar")
    words = ["migrate", "torchserve", "--model-store", tmp_path / "store", "--dry-run", "--json"]

    named = towline(*words, "--models", "a.mar", "--models", "second=b.mar").json()
    everything = towline(*words, "--", "--models", "all").json()

    assert [model["name"] for model in named["models"]] == ["a", "second"]
    assert [model["name"] for model in everything["models"]] == ["a", "b", "c"]


@pytest.mark.parametrize("form", ["default", "tgz", "no-archive"])
def test_what_torch_model_archiver_makes_is_read(form: str, towline: Run, tmp_path: Path) -> None:
    for name, content in {"net.onnx": tiny_models.mean_colour(), "index_to_name.json": json.dumps(LABELS).encode()}.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "store").mkdir()
    given = {
        "model-name": "colour",
        "version": "2.0",
        "serialized-file": tmp_path / "net.onnx",
        "handler": "image_classifier",
        "extra-files": tmp_path / "index_to_name.json",
        "export-path": tmp_path / "store",
        "archive-format": form,
    }
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    subprocess.run([sys.executable, "-m", "model_archiver.model_packaging", *words], check=True, timeout=300, capture_output=True)

    # One of them for real: its files lie in a folder of the archive.
    done = towline("migrate", "torchserve", "--model-store", tmp_path / "store", *([] if form == "tgz" else ["--dry-run"]))

    assert done.code == 0, done.out
    assert "colour:2" in done.out
    assert "(net.onnx)" in done.out


def test_an_unpacked_archive_is_read_as_well(towline: Run, tmp_path: Path) -> None:
    with zipfile.ZipFile(mar(tmp_path / "packed" / "colour.mar")) as archive:
        archive.extractall(tmp_path / "store" / "colour")

    done = towline("migrate", "torchserve", "--model-store", tmp_path / "store", "--dry-run")

    assert done.code == 0, done.err
    assert "colour:1" in done.out


@pytest.mark.parametrize(
    ("old", "numbers"),
    [
        (["1.0"], (1,)),
        (["2.0", "10"], (2, 10)),
        (["1.0", "1"], (1, 2)),
        (["1.2", "1.10"], (1, 2)),
        (["1.10", "1.2"], (2, 1)),
        (["", "3"], (4, 3)),
    ],
)
def test_versions_that_are_numbers_keep_them_and_others_follow_in_their_order(old: list[str], numbers: tuple[int, ...]) -> None:
    assert numbers_for(old) == numbers
