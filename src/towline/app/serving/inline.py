"""Load a version into the process that answers: `--isolation none`, for embedding. A model that crashes takes that process along."""

from __future__ import annotations

from pathlib import Path

from towline.core.manifest import Manifest
from towline.core.version import check_sealed
from towline.core.warmup import WarmReport, warm
from towline.serve.lanes import Run


def load_inline(folder: Path, digest: str, manifest: Manifest) -> tuple[Run, WarmReport]:
    from towline.core.engine import EngineOptions
    from towline.engines.loading import load_engine, load_session

    check_sealed(folder, digest)
    session = load_session(load_engine(manifest.engine), folder, manifest, EngineOptions())
    return session.run, warm(session.run, folder, manifest)
