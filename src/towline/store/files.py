"""The folders of a store: staging, sealing, putting a version in its place, taking it away.

HOME/versions/sha256-<hex>/   a version, under the name of its content
HOME/staging/<random>/        somebody's work, locked while they live; what is not locked may be removed
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from towline.core.errors import InvalidRequest, VersionError
from towline.core.version import check_sealed
from towline.store.disk import Disk
from towline.store.errors import StoreError, named_faults

DATABASE = "towline.db"
MAX_MANIFEST_BYTES = 16 << 20
_STAGING_TRIES = 8


@dataclass(frozen=True)
class Sealed:
    """What a staged folder holds, once all of it is on disk."""

    digest: str
    size_bytes: int
    engine: str
    source_digest: str


class Files:
    def __init__(self, home: Path, disk: Disk) -> None:
        self.home = home
        self.database = home / DATABASE
        self.versions = home / "versions"
        self.staging = home / "staging"
        self._disk = disk

    def make_home(self) -> None:
        """Make the folders that are missing, each on disk before anything is put into it."""
        missing = [folder for folder in (*reversed(self.home.parents), self.home, self.versions, self.staging) if not folder.exists()]
        for folder in missing:
            try:
                self._disk.make_folder(folder)
            except FileExistsError:
                # Another process is opening the same new store.
                continue
            self._disk.sync_folder(folder.parent)

    def version_folder(self, digest: str) -> Path:
        return self.versions / digest.replace(":", "-", 1)

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """A new, empty, locked folder; what is left of it at exit is removed."""
        with named_faults():
            folder, lock = self._new_staging()
        try:
            yield folder
        finally:
            self.remove(folder)
            self._disk.unlock(lock)

    def _new_staging(self) -> tuple[Path, int]:
        for _ in range(_STAGING_TRIES):
            folder = self._unused()
            self._disk.make_folder(folder)
            lock = self._disk.lock_folder(folder)
            if lock is not None:
                return folder, lock
            # A sweep took it in the moment before it was locked.
        raise StoreError("No folder could be staged: something removes new folders from the store at once.")

    def _unused(self) -> Path:
        return self.staging / os.urandom(12).hex()

    def check_staged(self, staged: Path) -> None:
        if staged.parent != self.staging or not staged.is_dir():
            raise InvalidRequest(f"'{staged.name}' is no folder that this store staged, or it was published already.", code="NOT_STAGED")

    def seal(self, staged: Path) -> Sealed:
        """Check a staged folder, bring every file and folder of it to disk, and name its content. Raises VersionError."""
        from towline.core.digest import folder_digest, folder_files, folder_size_bytes
        from towline.core.manifest import decode_manifest

        names = folder_files(staged)
        if "manifest.json" not in names:
            raise VersionError("The staged folder holds no manifest.json, so it is no version.", code="BAD_MANIFEST")
        if (staged / "manifest.json").stat().st_size > MAX_MANIFEST_BYTES:
            raise VersionError(f"manifest.json is larger than {MAX_MANIFEST_BYTES >> 20} MiB.", code="BAD_MANIFEST")
        manifest = decode_manifest((staged / "manifest.json").read_bytes())
        for name in names:
            self._disk.settle_file(staged / name, 0o400)
        for folder, _, _ in os.walk(staged, topdown=False):
            self._disk.sync_folder(Path(folder))
        return Sealed(folder_digest(staged), folder_size_bytes(staged), manifest.engine, manifest.origin.source_digest)

    def condition(self, digest: str) -> Literal["missing", "intact", "damaged"]:
        """Read all of a version's folder and say whether it is what its name says."""
        folder = self.version_folder(digest)
        if not folder.is_dir():
            return "missing"
        try:
            check_sealed(folder, digest)
        except (VersionError, OSError):
            # A file that cannot be read is no better than one that was changed: both are mended by a fresh copy.
            return "damaged"
        return "intact"

    def place(self, staged: Path, digest: str) -> Path | None:
        """Give a sealed folder its final name, on disk. The caller holds the write lock.

        Returns where a damaged folder of that name was moved to, for the caller to remove; else None.
        """
        replaced = self.displace(digest)
        self._disk.rename(staged, self.version_folder(digest))
        self._disk.sync_folder(self.versions)
        return replaced

    def displace(self, digest: str) -> Path | None:
        """Move a version's folder out of sight in one step, if it is there. The caller holds the write lock."""
        aside = self._unused()
        try:
            self._disk.rename(self.version_folder(digest), aside)
        except FileNotFoundError:
            return None
        self._disk.sync_folder(self.versions)
        return aside

    def remove(self, folder: Path | None) -> None:
        """Remove a folder in staging. What resists is left to the next sweep: the change it belonged to is done."""
        if folder is None:
            return
        try:
            self._disk.remove_tree(folder)
        except OSError:
            # The folder keeps only disk space, and the sweep of every open tries again.
            return

    def sweep_staging(self) -> None:
        """Remove what processes that ended left in staging; what a living one holds is locked and stays."""
        for folder in self.staging.iterdir():
            if not folder.is_dir() or folder.is_symlink():
                self._disk.remove_file(folder)
                continue
            lock = self._disk.lock_folder(folder)
            if lock is not None:
                self.remove(folder)
                self._disk.unlock(lock)
