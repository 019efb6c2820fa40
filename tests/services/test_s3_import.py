"""Models from a bucket: a server of S3's protocol that asks for credentials, and s3fs, both in an environment of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towline.testing import tiny_models

pytestmark = pytest.mark.services
ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".venv-client-s3"
TOWLINE = "import sys; from towline.cli.main import main; sys.exit(main())"
# What each URL gives, or the code and the message of the refusal; nothing larger than 1 MiB is taken.
FETCH = """
import json, sys
from towline.app.fetching.fetch import fetched
from towline.core.errors import TowlineError

def tried(url):
    try:
        with fetched(url, max_bytes=1 << 20) as place:
            files = [place] if place.is_file() else sorted(one for one in place.rglob("*") if one.is_file())
            return [[one.relative_to(place.parent).as_posix(), one.stat().st_size] for one in files]
    except TowlineError as error:
        return [error.code, f"{error.message} {error.hint}"]

print(json.dumps([tried(url) for url in sys.argv[1:]]))
"""


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a user who may read the bucket has in his environment."""
    if not (ENVIRONMENT / ".ready").exists():
        raise RuntimeError(f"{ENVIRONMENT.name} is not there: make {ENVIRONMENT.name}/.ready")
    model = tiny_models.write(tmp_path_factory.mktemp("s3"), tiny_models.mlp(), "mlp.onnx")
    words = [ENVIRONMENT / "bin" / "python", Path(__file__).parent / "s3_server.py", model]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        yield {
            "AWS_ENDPOINT_URL": told["url"],
            "AWS_ACCESS_KEY_ID": told["key"],
            "AWS_SECRET_ACCESS_KEY": told["secret"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        # Its stdin is closed with it, which ends it.


def run(tmp_path: Path, code: str, *words: str, **credentials: str) -> subprocess.CompletedProcess[str]:
    """Our own Python, lent s3fs; nothing but what is given tells it who it is."""
    (packages,) = (ENVIRONMENT / "lib").glob("python*/site-packages")
    space = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": f"{ROOT / 'src'}:{packages}",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return subprocess.run(
        [sys.executable, "-c", code, *words], env={**space, **credentials}, capture_output=True, text=True, timeout=120, check=False
    )


def fetch(tmp_path: Path, *urls: str, **credentials: str) -> list[list[object]]:
    done = run(tmp_path, FETCH, *urls, **credentials)
    assert done.returncode == 0, done.stderr
    found: list[list[object]] = json.loads(done.stdout)
    return found


def test_a_model_in_a_bucket_is_imported(tmp_path: Path, credentials: dict[str, str]) -> None:
    done = run(tmp_path, TOWLINE, "import", "s3://bucket/models/mlp.onnx", "--home", str(tmp_path / "home"), "--json", **credentials)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "mlp"
    assert credentials["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


def test_what_cannot_be_had_is_told_and_a_folder_comes_whole(tmp_path: Path, credentials: dict[str, str]) -> None:
    size = len(tiny_models.mlp())
    missing, elsewhere, large, folder = fetch(
        tmp_path,
        "s3://bucket/models/none.onnx",
        "s3://nobodys/x.onnx",
        "s3://bucket/models/large.onnx",
        "s3://bucket/folder",
        **credentials,
    )

    assert missing == ["NOT_FOUND", "There is nothing at s3://bucket/models/none.onnx. Check the bucket and the path."]
    assert elsewhere[0] == "SOURCE_REFUSED"
    assert large == ["TOO_LARGE", "s3://bucket/models/large.onnx has 6,291,456 bytes; at most 1,048,576 are fetched. "]
    assert folder == [["folder/1/model.onnx", size], ["folder/notes.txt", 1]]


@pytest.mark.parametrize("wrong", ["AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", ""])
def test_wrong_credentials_and_none_are_refused_and_never_repeated(tmp_path: Path, credentials: dict[str, str], wrong: str) -> None:
    endpoint = {name: value for name, value in credentials.items() if name in ("AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")}
    given = {**credentials, wrong: "AKIAWRONGWRONGWRONG0"} if wrong else endpoint
    ((code, message),) = fetch(tmp_path, "s3://bucket/models/mlp.onnx", **given)

    assert code == "SOURCE_REFUSED"
    assert "s3://bucket/models/mlp.onnx may not be read" in str(message)
    assert not {"AKIAWRONGWRONGWRONG0", credentials["AWS_SECRET_ACCESS_KEY"]} & set(str(message).split())
