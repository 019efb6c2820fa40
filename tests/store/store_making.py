"""What the store's tests share: small real versions, a clock that the test owns, and the whole state as one value."""

from __future__ import annotations

import tempfile
from pathlib import Path

from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, encode_manifest
from towline.core.version import Version
from towline.store.sqlite import SqliteStore


class HandClock:
    """Time that moves when the test says so. Seconds."""

    def __init__(self, at_s: float = 1000.0) -> None:
        self.at_s = at_s

    def monotonic(self) -> float:
        return self.at_s

    def time(self) -> float:
        return 1_700_000_000.0 + self.at_s


def manifest(seed: int | str) -> bytes:
    """A manifest whose source is named by `seed`."""
    return encode_manifest(
        Manifest(
            format=1,
            engine="onnxruntime",
            model_file="model.onnx",
            signatures={"serving_default": Signature((), ())},
            batchable=False,
            origin=Origin("onnx", source(seed)),
            facts=Facts(0, {}, {}),
            measured=Measured("cpu", True, 0, 0, 1),
        )
    )


def source(seed: int | str) -> str:
    return f"sha256:source-{seed}"


def fill(folder: Path, seed: int | str) -> None:
    """A version of three files, one of them in a folder of its own. Equal seeds give equal bytes."""
    (folder / "manifest.json").write_bytes(manifest(seed))
    (folder / "model.onnx").write_bytes(f"model {seed}".encode() * 3)
    (folder / "golden").mkdir()
    (folder / "golden" / "1.frames").write_bytes(b"frames")


def add(store: SqliteStore, name: str, seed: int | str, *, why: str = "") -> Version:
    with store.stage() as folder:
        fill(folder, seed)
        return store.publish(folder, name, actor="tester", why=why)


def state(store: SqliteStore) -> dict[str, object]:
    """Everything that can be read from a store, without the time of day."""
    return {
        "versions": [(str(version), version.digest, version.size_bytes) for version in store.versions(limit=1000)],
        "aliases": store.aliases(),
        "history": {name: [(move.alias, move.number) for move in store.alias_history(name)] for name in ("a", "b", "c")},
        "deployments": store.deployments(),
        "events": [(event.number, event.kind, event.name, event.data) for event in store.events(limit=1000)],
    }


def complaints(store: SqliteStore) -> list[str]:
    """What is wrong with a store: findings, breaks of the chain, folders that no version needs."""
    home = store._files.home
    held = {version.path.name for version in store.versions(limit=1000)}
    orphans = {folder.name for folder in (home / "versions").iterdir()} - held
    staged = [folder.name for folder in (home / "staging").iterdir()]
    left = [f"{name} is left in versions" for name in sorted(orphans)] + [f"{name} is left in staging" for name in staged]
    return [*store.check(deep=True), *store.verify_events(), *left]


def fast_folder(prefix: str = "towline-") -> tempfile.TemporaryDirectory[str]:
    """A folder in memory where there is one: hundreds of fsyncs are then no matter of the disk."""
    memory = Path("/dev/shm")
    return tempfile.TemporaryDirectory(prefix=prefix, dir=memory if memory.is_dir() else None)
