"""Run command lines in this process or, where the behaviour of a process matters, in one of their own."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import TOWLINE, Ran, Run

from towline.cli.main import main
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec, encode_manifest


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a current folder of our own, without settings from outside."""
    for name in list(os.environ):
        if name.startswith("TOWLINE_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TOWLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def towline(capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """`towline(*words)` in this process."""
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    def run(*words: object) -> Ran:
        capfd.readouterr()
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    yield run
    for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def process() -> Run:
    """`process(*words)` in a process of its own."""

    def run(*words: object, stdin: bytes = b"", may_read_all: bool = True, **environ: str) -> Ran:
        done = subprocess.run(
            [*TOWLINE, *map(str, words)],
            input=stdin,
            capture_output=True,
            env={**os.environ, **environ},
            timeout=300,
            check=False,
            preexec_fn=None if may_read_all else _as_anybody,
        )
        return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


def _as_anybody() -> None:
    """Root without what lets it read every file (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH); nothing changes for anybody else."""
    for capability in (1, 2):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)


@pytest.fixture
def publish(home: Path) -> Callable[..., Any]:
    """`publish(name, content)` puts a version that nothing can run into the store: enough for the commands that never run one."""

    def put(name: str = "digits", content: bytes = b"weights", why: str = "") -> Any:
        from towline.store.sqlite import open_store

        store = open_store(home)
        try:
            with store.stage() as staged:
                (staged / "model.onnx").write_bytes(content)
                (staged / "manifest.json").write_bytes(encode_manifest(_manifest()))
                return store.publish(staged, name, actor="ann", why=why)
        finally:
            store.close()

    return put


def _manifest() -> Manifest:
    signature = Signature((TensorSpec("x", "float32", ("N", 3)),), (TensorSpec("y", "float32", ("N", 2)),))
    return Manifest(
        format=1,
        engine="onnxruntime",
        model_file="model.onnx",
        signatures={"serving_default": signature},
        batchable=False,
        origin=Origin("onnx", "sha256:" + "5" * 64),
        facts=Facts(12345, {"Gemm": 2}, {"": 17}),
        measured=Measured("some cpu", True, 16 << 20, 32 << 20, 256),
        unbatchable_because="rows change one another",
    )
