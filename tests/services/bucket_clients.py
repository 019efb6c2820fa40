"""Models from buckets: a server of the storage's protocol and what asks it, both in an environment of their own, `.venv-client-NAME`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towline.testing import tiny_models

ROOT = Path(__file__).parents[2]
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


@dataclass(frozen=True)
class Storage:
    """One kind of storage, by the name of its environment."""

    name: str

    @property
    def environment(self) -> Path:
        folder = ROOT / f".venv-client-{self.name}"
        if not (folder / ".ready").exists():
            raise RuntimeError(f"{folder.name} is not there: make {folder.name}/.ready")
        return folder

    @contextmanager
    def server(self, folder: Path) -> Iterator[dict[str, str]]:
        """What NAME_server.py tells of itself, while it serves a model."""
        model = tiny_models.write(folder, tiny_models.mlp(), "mlp.onnx")
        words = [self.environment / "bin" / "python", Path(__file__).parent / f"{self.name}_server.py", model]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            assert server.stdout is not None
            yield json.loads(server.stdout.readline())
            # Its stdin is closed with it, which ends it.

    def run(self, tmp_path: Path, code: str, *words: str, **credentials: str) -> subprocess.CompletedProcess[str]:
        """Our own Python, lent the environment's packages; nothing but what is given tells it who it is."""
        (packages,) = (self.environment / "lib").glob("python*/site-packages")
        space = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PYTHONPATH": f"{ROOT / 'src'}:{packages}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        return subprocess.run(
            [sys.executable, "-c", code, *words], env={**space, **credentials}, capture_output=True, text=True, timeout=120, check=False
        )

    def fetch(self, tmp_path: Path, *urls: str, **credentials: str) -> list[list[object]]:
        done = self.run(tmp_path, FETCH, *urls, **credentials)
        assert done.returncode == 0, done.stderr
        found: list[list[object]] = json.loads(done.stdout)
        return found
