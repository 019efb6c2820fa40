"""Find how a version runs best on this machine: threads, runs and workers at a time, rows of a run, engine. Measured, and written down.

What is found is an event about the version and this kind of machine; `towline serve` runs the version by it from its next load on.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from towline.app.home import actor, find_settings, opened_store
from towline.app.importing.sealing import Order
from towline.app.judging.judge import Options, Say, labels_of, opened_data, silent
from towline.app.tuning.engined import ENGINES, publish_under
from towline.app.tuning.searching import Search
from towline.app.tuning.tuned import USUAL, Aim, Tuned, choice_json
from towline.core.config import Settings
from towline.core.errors import UsageError
from towline.core.event import Event
from towline.core.frames import decode_frame
from towline.core.inference import Request
from towline.core.refs import Ref, parse_ref
from towline.core.runtime import TUNED
from towline.core.store import Store
from towline.core.version import Version, check_sealed
from towline.optimize.runtime import Reading, flags

__all__ = ["Aim", "Reading", "Tuned", "tune"]

MOST_REQUESTS = 64
# Engines that a version can be published under: they run the very file that it has.
PUBLISHED = ("openvino",)


def tune(
    ref: str | Ref,
    *,
    data: str | Path | None = None,
    aim: Aim = USUAL,
    publish: bool = False,
    home: str | Path | None = None,
    say: Say | None = None,
) -> Tuned:
    """Measure the version `ref` in every way worth trying, and record what is best. Its requests are rows of `data`, else its golden ones.

    With `publish`, a version that is best under another engine is published as a new one that this engine runs, where it can be.
    Stopped by Ctrl-C or its budget it tells the best so far. Raises UsageError for a version that nothing can be asked of, VersionError
    for one that does not load.
    """
    if unknown := set(aim.engines) - set(ENGINES):
        raise UsageError(f"There is no engine '{min(unknown)[:32]}' to try.", hint=f"There is: {', '.join(ENGINES)}.")
    with opened_store(home) as store, ExitStack() as stages:
        version = store.version(ref if isinstance(ref, Ref) else parse_ref(ref))
        check_sealed(version.path, version.digest)
        settings = find_settings({"home": str(home) if home else None}).settings
        requests = _requests(version, None if data is None else Path(data), settings)
        search = Search(version, requests, aim, settings, say or silent)
        try:
            for engine in aim.engines:
                search.try_engine(engine, stages.enter_context(store.stage()))
            asyncio.run(search.run())
        except KeyboardInterrupt:
            search.stopped = "It was interrupted."
        tuned = search.found()
        if tuned.readings:
            if publish and tuned.chosen.setting.engine in PUBLISHED:
                tuned = replace(tuned, published=_published(store, tuned, say or silent))
            facts = {"number": version.number, **tuned.as_json()}
            store.append(Event(TUNED, actor(), time.time(), name=version.name, digest=version.digest, data=facts))
    return tuned


def _published(store: Store, tuned: Tuned, say: Say) -> Version:
    """The version under the engine that is best, which is recorded to run as was measured."""
    from towline.serve.workers.local import LocalWorker

    version, chosen = tuned.version, tuned.chosen
    order = Order(store, version.name, None, actor(), f"tuned from {version}", LocalWorker.start, say)
    evidence = {"tuned_from": version.digest, **choice_json(chosen)}
    made = publish_under(version, chosen.setting.engine, order, evidence, (chosen.because,)).version
    facts = {"number": made.number, "machine": tuned.machine, "use": flags(chosen.setting.runtime), "tuned_from": version.digest}
    store.append(Event(TUNED, actor(), time.time(), name=made.name, digest=made.digest, data=facts))
    return made


def _requests(version: Version, data: Path | None, settings: Settings) -> tuple[Request, ...]:
    """What clients ask: a row each. The rows of the golden request where no data is given; a version that is not batched gets it whole."""
    manifest = version.manifest
    if data is not None:
        rows = opened_data(data, manifest, labels_of(version, manifest), Options(limit=MOST_REQUESTS))
        return tuple(_request(rows.read(row, row + 1)) for row in range(rows.rows))
    if not manifest.golden:
        raise UsageError(
            f"{version} has no golden request, so nothing is known that it could be asked.", code="NO_REQUEST", hint="Give rows: --data"
        )
    golden = decode_frame((version.path / manifest.golden[0].request).read_bytes())
    if not manifest.batchable:
        return (_request(golden),)
    rows_there = min(len(array) for array in golden.values())
    return tuple(_request({name: array[row : row + 1] for name, array in golden.items()}) for row in range(min(rows_there, MOST_REQUESTS)))


def _request(inputs: dict[str, np.ndarray] | Any) -> Request:
    return Request({name: np.ascontiguousarray(array) for name, array in inputs.items()})
