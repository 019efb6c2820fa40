"""What each process of a server has loaded: no converter, no framework, and of ours only what it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from towline.testing import tiny_models
from towline.testing.server import RunningServer

FRAMEWORKS = (
    "torch",
    "tensorflow",
    "keras",
    "jax",
    "sklearn",
    "ray",
    "kubernetes",
    "pandas",
    "scipy",
    "fastapi",
    "pydantic",
    "onnx",
    "PIL",
    "tokenizers",
    "soxr",
)
SERVING = ("towline.app.serving.front", "towline.app.serving.controller", "towline.engines.host", "towline.engines.forks")
# Written by each process on its way out, so that everything it loaded in its life is in the list.
SITE = """
import atexit, os, sys

def tell(folder=os.environ["MODULES_FOLDER"], pid=os.getpid()):
    told = os.path.join(folder, f"{os.getpid()}.txt")
    with open(told + ".part", "w") as file:
        # Who was forked has the fork server's command line, and arguments of its own.
        file.write(" ".join(sys.argv + sys.orig_argv) + "\\n" + "\\n".join(sys.modules))
    # Whole, or not there: somebody waits for it.
    os.rename(told + ".part", told)

# Once for each Python that is started; who is forked does not come here.
open(os.path.join(os.environ["MODULES_FOLDER"], f"{os.getpid()}.started"), "w").close()
real_exit = os._exit
def leave(code):
    tell()
    real_exit(code)

os._exit = leave
atexit.register(tell)
"""


@dataclass(frozen=True)
class Served:
    """What each process told in `folder`, after a model was imported, served and asked; and how many Pythons were started until then."""

    folder: Path
    pythons: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = tmp_path_factory.mktemp("modules")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(SITE)
    model = folder / "mlp.onnx"
    model.write_bytes(tiny_models.mlp())
    before = dict(os.environ)
    os.environ |= {"MODULES_FOLDER": str(folder), "PYTHONPATH": f"{site}{os.pathsep}{before.get('PYTHONPATH', '')}"}
    try:
        with RunningServer(model) as server:
            status, _ = server.post("/v1/models/mlp:predict", b'{"instances": [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]}')
            assert status == 200
            pythons = len(list(folder.glob("*.started")))
            # A front that ends in order has its workers killed; when it is killed itself they end of their own, and tell.
            worker = folder / f"{server.worker_pid('mlp')}.txt"
            os.kill(server.front_pid, signal.SIGKILL)
            server.wait_until(worker.exists)
            server.wait_until(server.is_ready)
            assert server.stop() == 0
        # Who ends because the supervisor has ended tells after it.
        until_s = time.monotonic() + 60
        while not set(SERVING) <= told_in(folder).keys() and time.monotonic() < until_s:
            time.sleep(0.01)
    finally:
        os.environ.clear()
        os.environ |= before
    return Served(folder, pythons)


@pytest.fixture(scope="module")
def loaded(served: Served) -> dict[str, set[str]]:
    """The modules of each kind of process."""
    return told_in(served.folder)


def told_in(folder: Path) -> dict[str, set[str]]:
    roles: dict[str, set[str]] = {}
    for file in folder.glob("*.txt"):
        command, _, names = file.read_text().partition("\n")
        for role in ("towline.convert.inspect", *SERVING):
            if role in command:
                roles.setdefault(role, set()).update(names.split())
                break
        else:
            roles.setdefault("supervisor", set()).update(names.split())
    return roles


@pytest.mark.parametrize("role", ["supervisor", *SERVING])
def test_no_process_that_serves_loads_a_framework_or_a_converter(loaded: dict[str, set[str]], role: str) -> None:
    assert loaded[role], f"{role} told nothing"
    assert not loaded[role] & set(FRAMEWORKS)


def test_only_the_command_and_the_fork_server_are_pythons_of_their_own_and_all_others_forked(served: Served) -> None:
    assert served.pythons == 2


def test_the_front_opens_no_store_and_runs_no_engine(loaded: dict[str, set[str]]) -> None:
    assert not {
        name
        for name in loaded["towline.app.serving.front"]
        if name.startswith(("sqlite3", "towline.store", "onnxruntime", "towline.convert"))
    }


def test_the_front_loads_no_library_of_an_extra_that_nobody_used(loaded: dict[str, set[str]]) -> None:
    assert not {"graphql", "PIL", "tokenizers"} & loaded["towline.app.serving.front"]


@pytest.mark.parametrize("role", ["towline.engines.host", "towline.engines.forks"])
def test_a_worker_and_who_forks_it_have_the_core_and_its_engine_and_nothing_else_of_ours(loaded: dict[str, set[str]], role: str) -> None:
    ours = {".".join(name.split(".")[:2]) for name in loaded[role] if name.startswith("towline.")}

    assert ours == {"towline.core", "towline.engines"}
    assert not {"sqlite3", "uvicorn", "click", "asyncio"} & loaded[role]


def test_the_controller_drives_its_worker_without_a_loop_and_loads_no_server(loaded: dict[str, set[str]]) -> None:
    names = loaded["towline.app.serving.controller"]

    assert "towline.serve.workers.local" in names
    assert not {"asyncio", "uvicorn", "click", "ssl"} & names


def test_the_fork_server_whom_all_wait_for_loads_no_reader_of_packages(loaded: dict[str, set[str]]) -> None:
    assert not {"importlib.metadata", "email", "zipfile", "tempfile"} & loaded["towline.engines.forks"]


def test_the_supervisor_is_small(loaded: dict[str, set[str]]) -> None:
    assert not {"numpy", "msgspec", "sqlite3", "uvicorn", "onnxruntime", "asyncio"} & loaded["supervisor"]


def test_importing_the_core_imports_nothing_heavy() -> None:
    script = "import sys, towline, towline.core; print(*sys.modules)"
    names = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()

    assert not {"numpy", "msgspec", "onnxruntime", "onnx", "click", "asyncio", "dataclasses"} & set(names)
