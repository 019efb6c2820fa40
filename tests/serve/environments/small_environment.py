"""An environment as `towline env create` leaves one, with a small engine of a stranger's in it, and a version that needs both."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from towline.core.manifest import Facts, Golden, Manifest, Measured, Origin, Signature, TensorSpec, encode_manifest
from towline.core.version import Version
from towline.store.sqlite import SqliteStore

NAME = "small"
# What an x in a request makes the engine do instead of doubling it.
CRASH, HANG, ESCAPE = -1.0, -2.0, -3.0
HELD_BYTES = 64 << 20
ENGINE = f"""
import ctypes, os, socket, sys, threading
import numpy as np
import only_in_the_environment
from towline.core.errors import EngineError, VersionError


class Session:
    def __init__(self, factor, folder):
        self.factor = factor
        self.folder = folder
        self.held = np.ones({HELD_BYTES}, np.uint8)

    def run(self, inputs, *, slot=0):
        x = inputs["x"]
        if {CRASH} in x:
            ctypes.string_at(0)
        if {HANG} in x:
            threading.Event().wait()
        if {ESCAPE} in x:
            return [x, np.full(x.shape, " ".join(escapes(self.folder)).encode(), object)]
        return [x * self.factor, np.full(x.shape, sys.prefix.encode(), object)]

    def terminate(self, slot):
        pass


def escapes(folder):
    outside, port = (folder / "outside.txt").read_text().split()
    attempts = {{
        "read": lambda: open(outside + "/secret.txt").read(),
        "write": lambda: open(outside + "/written.txt", "w").write("x"),
        "change": lambda: open(folder / "factor.txt", "a").write("x"),
        "connect": lambda: socket.create_connection(("127.0.0.1", int(port)), 5),
        "send": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", int(port))),
        "secret": lambda: os.environ["TOWLINE_KEY"],
        "privilege": lambda: os.setgroups([]),
    }}
    for name, attempt in attempts.items():
        try:
            attempt()
        except (OSError, KeyError):
            continue
        yield name


class SmallEngine:
    name = "small-engine"

    def load(self, folder, manifest, options):
        try:
            return Session(np.float32((folder / manifest.model_file).read_text()), folder)
        except (OSError, ValueError) as error:
            raise VersionError("The factor cannot be read.") from error

    def describe(self, folder, model_file):
        raise NotImplementedError

    def devices(self):
        return ("cpu",)
"""


def make_environment(environments: Path, name: str = NAME) -> Path:
    """A virtual environment without pip, with the two libraries that a worker needs and the engine."""
    folder = environments / name
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for package in (np, msgspec):
        source = Path(str(package.__file__)).parent
        # No links to elsewhere: a worker reads its own environment and nothing beside it.
        for one in (source, *source.parent.glob(f"{source.name}.libs")):
            # With its bytecode, which a worker behind walls could not write: each would compile all of numpy again.
            shutil.copytree(one, site / one.name, copy_function=_link, ignore=shutil.ignore_patterns("tests"))
    (site / "only_in_the_environment.py").touch()
    (site / "small_engine.py").write_text(ENGINE)
    metadata = site / "small_engine-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: small-engine\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[towline.engines]\nsmall-engine = small_engine:SmallEngine\n")
    (folder / "ready.json").write_text("{}")
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def small_manifest(environment: str = NAME, engine: str = "small-engine", golden: tuple[Golden, ...] = ()) -> Manifest:
    outputs = (TensorSpec("y", "float32", ("N",)), TensorSpec("where", "string", ("N",)))
    return Manifest(
        format=1,
        engine=engine,
        model_file="factor.txt",
        signatures={"serving_default": Signature((TensorSpec("x", "float32", ("N",)),), outputs)},
        batchable=True,
        origin=Origin("text", "sha256:0"),
        facts=Facts(0, {}, {}),
        measured=Measured("any", True, 0, 0, 256),
        golden=golden,
        environment=environment,
    )


def fill(folder: Path, manifest: Manifest) -> Path:
    (folder / "factor.txt").write_text("2")
    (folder / "manifest.json").write_bytes(encode_manifest(manifest))
    return folder


def publish(store: SqliteStore, name: str, manifest: Manifest) -> Version:
    with store.stage() as folder:
        return store.publish(fill(folder, manifest), name, actor="tester", why="")
