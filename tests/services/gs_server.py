"""Run by .venv-client-gs: an emulator of Google's storage on loopback that holds a bucket: `python gs_server.py FILE`.

Prints one line, {"url"}, and serves until its stdin is closed. FILE is stored as bucket/models/NAME.onnx and, with another beside it,
below bucket/folder.
"""

import json
import os
import sys
from pathlib import Path

from gcp_storage_emulator.server import create_server
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage


def main(file: Path) -> None:
    server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server.start()
    # Port 0 takes a free one, of which the emulator tells nobody.
    host, port = server._api._httpd.server_address
    url = f"http://{host}:{port}"
    os.environ["STORAGE_EMULATOR_HOST"] = url
    bucket = storage.Client(project="towline", credentials=AnonymousCredentials()).bucket("bucket")
    for key, content in (
        ("models/mlp.onnx", file.read_bytes()),
        ("folder/1/model.onnx", file.read_bytes()),
        ("folder/notes.txt", b"a"),
        ("models/large.onnx", b"\0" * (2 << 20)),
    ):
        bucket.blob(key).upload_from_string(content, content_type="application/octet-stream")
    print(json.dumps({"url": url}), flush=True)
    sys.stdin.read()
    # At once, whoever still holds a connection: all of it is in memory.
    os._exit(0)


main(Path(sys.argv[1]))
