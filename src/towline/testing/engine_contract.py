"""The contract of an engine (core/engine.py) as a check that ours and a stranger's both run."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from towline.core import dtypes
from towline.core.engine import Engine, EngineOptions, Session
from towline.core.errors import TowlineError, VersionError
from towline.core.manifest import Manifest

_THREADS = 4
_RUNS = 20


def check_engine(engine: Engine, folder: Path, manifest: Manifest, inputs: Mapping[str, np.ndarray]) -> None:
    """Raise AssertionError with a sentence for the first clause that `engine` breaks.

    `folder` holds a version that the engine can load, as `manifest` describes it; `inputs` is one legal request for it, whose
    answer is deterministic. Call it from a test of the engine's own.
    """
    assert engine.name == manifest.engine, f"the engine calls itself '{engine.name}', the manifest '{manifest.engine}'"
    assert engine.devices(), "an engine without any device could never load"
    session = engine.load(folder, manifest, EngineOptions())
    answer = session.run(inputs)
    _check_outputs(manifest, answer)
    _check_repeats(session, inputs, answer)
    assert _same(session.run(inputs, slot=7), answer), "another slot gave another answer"
    session.terminate(7)
    assert _same(session.run(inputs, slot=7), answer), "a wish that came too late for one run must not stop the next"
    _check_threads(session, inputs, answer)
    _check_refusals(engine, folder, manifest, session, inputs)


def _check_outputs(manifest: Manifest, answer: object) -> None:
    specs = manifest.signature.outputs
    outputs = list(answer)  # type: ignore[call-overload]
    assert len(outputs) == len(specs), f"{len(outputs)} outputs, the signature has {len(specs)}"
    for spec, array in zip(specs, outputs, strict=True):
        found = dtypes.of_array(array)
        assert found is not None, f"output '{spec.name}' came as {array.dtype}, which no frame carries"
        assert found.name == spec.dtype, f"output '{spec.name}' came as {found.name}, the signature says {spec.dtype}"
        assert spec.shape is None or len(spec.shape) == array.ndim, f"output '{spec.name}' has rank {array.ndim}"


def _check_repeats(session: Session, inputs: Mapping[str, np.ndarray], answer: object) -> None:
    before = {name: array.copy() for name, array in inputs.items()}
    assert _same(session.run(inputs), answer), "the same request got another answer"
    assert all(np.array_equal(array, before[name]) for name, array in inputs.items()), "a run must not change its inputs"
    frozen = {name: array.copy() for name, array in inputs.items()}
    for array in frozen.values():
        array.flags.writeable = False
    assert _same(session.run(frozen), answer), "inputs come from memory that may only be read"


def _check_threads(session: Session, inputs: Mapping[str, np.ndarray], answer: object) -> None:
    wrong: list[object] = []

    def runs(slot: int) -> None:
        wrong.extend(1 for _ in range(_RUNS) if not _same(session.run(inputs, slot=slot), answer))

    threads = [threading.Thread(target=runs, args=(slot,)) for slot in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong, f"{len(wrong)} of {_THREADS * _RUNS} runs in {_THREADS} threads gave another answer"


def _check_refusals(engine: Engine, folder: Path, manifest: Manifest, session: Session, inputs: Mapping[str, np.ndarray]) -> None:
    gone = msgspec.structs.replace(manifest, model_file="no/such/file")
    attempts = (
        ("a model file that is not there", gone, EngineOptions()),
        ("a device that is not there", manifest, EngineOptions(device="abacus:0")),
    )
    for what, wanted, options in attempts:
        try:
            engine.load(folder, wanted, options)
        except VersionError:
            continue
        except Exception as error:
            raise AssertionError(f"{what} must raise VersionError, not {type(error).__name__}") from error
        raise AssertionError(f"{what} was loaded")
    try:
        session.run({})
    except TowlineError:
        return
    except Exception as error:
        raise AssertionError(f"a run that cannot be must raise EngineError, not {type(error).__name__}") from error
    assert not inputs, "a run without its inputs gave an answer"


def _same(first: object, second: object) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(list(first), list(second), strict=True))  # type: ignore[call-overload]
