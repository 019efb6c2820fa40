"""Run a pass in a process of its own, in the Python that it needs: what it makes of memory, time and crashes is its own affair."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from towline.core.environments import python_of
from towline.core.errors import MissingExtra, TowlineError
from towline.core.frames import encode_frame
from towline.core.interpreter import command
from towline.core.worker_messages import error_from
from towline.optimize.base import Arrays, Judge, Pass, Passed, PassFailed, settings_of
from towline.optimize.passes import kind_of
from towline.optimize.quantize import Int8
from towline.optimize.sensitivity import Sensitivity

TIMEOUT_S = 1800.0
# OpenMP's threads wait for one another by spinning: beside anything else that is busy, small models train many times slower by that.
_PATIENT = {"OMP_WAIT_POLICY": "passive"}


@dataclass(frozen=True)
class Work:
    """What a pass is given, as files: `calibration` and `rows` as written by write_calibration and write_rows, `keep` an own folder that
    outlives a kill. `say` hears how it goes, `judge` is asked here, in our process; after `timeout_s` the pass is killed."""

    model: Path
    calibration: Sequence[str] = ()
    rows: Path | None = None
    keep: Path | None = None
    say: Callable[[str], None] | None = None
    timeout_s: float = TIMEOUT_S
    judge: Judge | None = None


def write_calibration(batches: Sequence[Arrays], folder: Path) -> tuple[str, ...]:
    """The batches as files, for the processes that read them."""
    names = []
    for place, batch in enumerate(batches):
        path = folder / f"calibration-{place}.bin"
        path.write_bytes(encode_frame(dict(batch)))
        names.append(str(path))
    return tuple(names)


def run_pass(chosen: Pass, work: Work, into: Path) -> Passed:
    """What the pass wrote into the new folder `into`. Raises PassFailed, also when its process dies, MissingExtra."""
    into.mkdir()
    said: dict[str, Any] = {}
    for line in _lines("pass", chosen, work, into):
        said = json.loads(line)
        if "say" in said and work.say is not None:
            work.say(said["say"])
    if "error" in said:
        raise _failure(said["error"])
    if "ok" not in said:
        raise PassFailed(f"The process of the pass '{chosen.name}' said nothing.")
    curves = {name: tuple(values) for name, values in said["ok"]["curves"].items()}
    return Passed(said["ok"]["model"], tuple(said["ok"]["notes"]), curves)


def run_sensitivity(how: Int8, work: Work, scratch: Path, output: str = "") -> Iterator[Sensitivity]:
    """Operator by operator, as it is measured in the new folder `scratch`; answers of `output` stay there (optimize/sensitivity.py).

    Raises PassFailed."""
    scratch.mkdir()
    for line in _lines("sensitivity", how, work, scratch, output):
        said = json.loads(line)
        if "error" in said:
            raise _failure(said["error"])
        yield Sensitivity(**said)


def _lines(do: str, chosen: Pass, work: Work, into: Path, output: str = "") -> Iterator[str]:
    """What the process prints, line by line, until it ends; what it asks the judge is answered."""
    job = into.parent / f"{into.name}.json"
    words = {"do": do, "pass": kind_of(chosen), "settings": settings_of(chosen), "model": str(work.model), "into": str(into)}
    given = {"calibration": list(work.calibration), "rows": str(work.rows or ""), "keep": str(work.keep or ""), "output": output}
    judge = {} if work.judge is None else {name: getattr(work.judge, name) for name in ("name", "is_higher_better", "identity")}
    job.write_text(json.dumps({**words, **given, "judge": judge}))
    process = subprocess.Popen(
        command("towline.optimize.host", str(job), python=python_of(chosen.environment) if chosen.environment else ""),
        # Held open: its end tells the process that nobody waits for it any more. Else nothing is written but what the judge says.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=_PATIENT | os.environ,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    late = threading.Timer(work.timeout_s, process.kill)
    late.start()
    try:
        for line in process.stdout:
            if work.judge is not None and (answers := json.loads(line).get("judge")):
                _answer(process.stdin, work.judge.of(np.load(answers, allow_pickle=False)))
            else:
                yield line.decode()
        code = process.wait()
    finally:
        in_time = late.is_alive()
        late.cancel()
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}" if in_time else f"took longer than {work.timeout_s:g} seconds"
        raise PassFailed(f"The process of the pass '{chosen.name}' {how}.")


def _answer(to: IO[bytes], value: float) -> None:
    """A process that died meanwhile needs no answer; that it died is found by whoever reads on."""
    with contextlib.suppress(BrokenPipeError):
        os.write(to.fileno(), f"{value!r}\n".encode())


def _failure(message: Any) -> TowlineError:
    error = error_from(message, PassFailed)
    if error.code == MissingExtra.code:
        return MissingExtra(error.message, hint=error.hint)
    return error
