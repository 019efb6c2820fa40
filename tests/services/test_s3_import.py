"""Models from a bucket: a server of S3's protocol that asks for credentials, and s3fs, both in an environment of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_clients import TOWLINE, Storage

from towline.testing import tiny_models

pytestmark = pytest.mark.services
S3 = Storage("s3")


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a user who may read the bucket has in his environment."""
    with S3.server(tmp_path_factory.mktemp("s3")) as told:
        yield {
            "AWS_ENDPOINT_URL": told["url"],
            "AWS_ACCESS_KEY_ID": told["key"],
            "AWS_SECRET_ACCESS_KEY": told["secret"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }


def test_a_model_in_a_bucket_is_imported(tmp_path: Path, credentials: dict[str, str]) -> None:
    done = S3.run(tmp_path, TOWLINE, "import", "s3://bucket/models/mlp.onnx", "--home", str(tmp_path / "home"), "--json", **credentials)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == "mlp"
    assert credentials["AWS_SECRET_ACCESS_KEY"] not in done.stdout + done.stderr


def test_what_cannot_be_had_is_told_and_a_folder_comes_whole(tmp_path: Path, credentials: dict[str, str]) -> None:
    size = len(tiny_models.mlp())
    missing, elsewhere, large, folder = S3.fetch(
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
    ((code, message),) = S3.fetch(tmp_path, "s3://bucket/models/mlp.onnx", **given)

    assert code == "SOURCE_REFUSED"
    assert "s3://bucket/models/mlp.onnx may not be read" in str(message)
    assert not {"AKIAWRONGWRONGWRONG0", credentials["AWS_SECRET_ACCESS_KEY"]} & set(str(message).split())
