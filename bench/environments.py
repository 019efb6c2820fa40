"""An environment per peer, so that no peer's pins meet another's: made once, made again when its requirements change."""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from against.peer import Peer

ROOT = Path(__file__).resolve().parents[1]
PREFIX = ".venv-bench-"
STAMP = ".ready"
INSTALL_TIMEOUT_S = 1200


@dataclass(frozen=True)
class Environment:
    """`problem` says why there is none; `size_bytes` is what its files hold, `versions` those of the peer's packages."""

    python: Path
    problem: str = ""
    size_bytes: int = 0
    versions: dict[str, str] = field(default_factory=dict)


def ready(peer: Peer) -> Environment:
    """The peer's environment, installed now when it is not there as its requirements say."""
    folder = ROOT / f"{PREFIX}{peer.folder}"
    python = folder / "bin" / "python"
    digest = wanted_digest(peer.requirements, ROOT / "pyproject.toml")
    stamp = folder / STAMP
    if not stamp.is_file() or stamp.read_text() != digest:
        print(f"  installing {peer.name}", file=sys.stderr)
        if problem := _install(folder, python, peer.requirements):
            return Environment(python, problem)
        stamp.write_text(digest)
    return Environment(
        python,
        size_bytes=_size_bytes(folder) + (_size_bytes(peer.sources) if peer.sources else 0),
        versions=_versions(folder, peer.packages),
    )


def wanted_digest(requirements: Path, project: Path) -> str:
    """Changes when the environment has to be made again: for this checkout, also when its own dependencies change."""
    wanted = requirements.read_bytes()
    return hashlib.sha256(wanted + project.read_bytes() if b"--editable" in wanted else wanted).hexdigest()


def _install(folder: Path, python: Path, requirements: Path) -> str:
    """What went wrong, in a line; empty when nothing did. The running pip fills it: it needs none of its own."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python), "install", "--quiet"]
    for command in ([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], [*pip, "--requirement", str(requirements)]):
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            return f"not installed: pip took longer than {INSTALL_TIMEOUT_S} s"
        if done.returncode != 0:
            return f"not installed: {install_error(done.stderr)}"
    return ""


def install_error(printed: str) -> str:
    """The first line in which pip names an error."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    named = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (named or lines or ["it said nothing"])[0][:200]


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _versions(folder: Path, packages: tuple[str, ...]) -> dict[str, str]:
    sites = [str(site) for site in (folder / "lib").glob("python3*/site-packages")]
    wanted = {package.lower() for package in packages}
    found = importlib.metadata.distributions(path=sites)
    return {one.name: one.version for one in found if one.name.lower() in wanted}
