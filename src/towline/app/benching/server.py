"""Serve a version for as long as it is measured: `towline serve` on free ports of loopback, from a store of its own.

Of its own, because what is served becomes a deployment: in the user's store that would change what other servers answer.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from towline.app.benching.target import PREDICT, TF_SERVING, V2, V2_GRPC
from towline.app.demo.server import served
from towline.app.home import actor, opened_store
from towline.app.listing import existing_store
from towline.app.predicting.load import is_model_file
from towline.app.sources import check_file
from towline.core.errors import Unavailable
from towline.core.refs import parse_ref


@contextmanager
def serving(target: str, protocol: str, home: str | Path | None) -> Iterator[tuple[str, str]]:
    """(URL in that protocol, address for HTTP) of a version of the store, or of a model file, which is imported for the time.

    Raises NotFound for a version there is not, Unavailable when the server does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="towline-bench-") as scratch:
        place, log = Path(scratch) / "home", Path(scratch) / "server.log"
        if is_model_file(target):
            check_file(Path(target), "a model file")
            what = str(Path(target).absolute())
        else:
            what = _copied(target, home, place)
        with served(what, place, 0, log, with_settings=True) as (_, server):
            ready = [model for model in server.models if model.state == "ready"]
            if not ready:
                raise Unavailable(f"{target} was not ready when its server was.", hint=log.read_text(errors="replace")[-500:])
            yield _url(server.url, server.grpc_url or "", ready[0].name, protocol), server.url


def _copied(target: str, home: str | Path | None, place: Path) -> str:
    """The version under its own name and number in a store at `place`."""
    ref = parse_ref(target)
    with existing_store(home, ref) as store, opened_store(place) as copy, copy.stage() as staged:
        version = store.version(ref)
        shutil.copytree(version.path, staged, dirs_exist_ok=True, copy_function=shutil.copyfile)
        return str(copy.publish(staged, version.name, actor=actor(), why="towline bench", number=version.number))


def _url(http: str, grpc: str, model: str, protocol: str) -> str:
    paths = {
        V2: f"{http}/v2/models/{model}",
        TF_SERVING: f"{http}/v1/models/{model}:predict",
        PREDICT: f"{http}/models/{model}/predict",
        V2_GRPC: f"{grpc}/{model}",
    }
    return paths[protocol or V2]
