"""A version: an immutable folder named by its digest, known under a model's name and a number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from towline.core.errors import VersionError

if TYPE_CHECKING:
    from towline.core.manifest import Manifest


@dataclass(frozen=True)
class Version:
    """What the store knows without opening the folder; `manifest` reads it. `created_s` is seconds since 1970."""

    name: str
    number: int
    digest: str
    path: Path
    size_bytes: int
    created_s: float
    engine: str
    source_digest: str

    def __str__(self) -> str:
        return f"{self.name}:{self.number}"

    @property
    def manifest(self) -> Manifest:
        # Imported here: `ls` and `ps` list versions without paying for msgspec.
        from towline.core.manifest import decode_manifest

        try:
            raw = (self.path / "manifest.json").read_bytes()
        except OSError as error:
            raise VersionError(f"The files of {self} are gone from the store.", hint="Run 'towline doctor'.") from error
        return decode_manifest(raw)


def check_sealed(path: Path, digest: str) -> None:
    """Raise unless the folder's content is what its digest says. Called before every load."""
    from towline.core.digest import folder_digest

    actual = folder_digest(path)
    if actual != digest:
        raise VersionError(
            f"The files of {digest[:19]}… were changed after sealing: their digest is now {actual[:19]}…; it will not be loaded.",
            code="DIGEST_MISMATCH",
            hint="Remove this version and import the model again.",
        )
