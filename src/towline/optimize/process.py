"""Run a pass in a process of its own: what it makes of memory, time and crashes is its own affair."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from towline.core.errors import MissingExtra, TowlineError
from towline.core.frames import encode_frame
from towline.core.interpreter import command
from towline.core.worker_messages import error_from
from towline.optimize.base import Arrays, Pass, Passed, PassFailed, settings_of
from towline.optimize.quantize import Int8
from towline.optimize.sensitivity import Sensitivity

TIMEOUT_S = 1800.0


def write_calibration(batches: Sequence[Arrays], folder: Path) -> tuple[str, ...]:
    """The batches as files, for the processes that read them."""
    names = []
    for place, batch in enumerate(batches):
        path = folder / f"calibration-{place}.bin"
        path.write_bytes(encode_frame(dict(batch)))
        names.append(str(path))
    return tuple(names)


def run_pass(chosen: Pass, model: Path, into: Path, calibration: Sequence[str], *, timeout_s: float = TIMEOUT_S) -> Passed:
    """What the pass wrote into the new folder `into`. Raises PassFailed, also when its process dies, MissingExtra."""
    into.mkdir()
    lines = list(_lines("pass", chosen, model, into, calibration, timeout_s))
    said: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if "error" in said:
        raise _failure(said["error"])
    if "ok" not in said:
        raise PassFailed(f"The process of the pass '{chosen.name}' said nothing.")
    return Passed(said["ok"]["model"], tuple(said["ok"]["notes"]), said["ok"]["facts"])


def run_sensitivity(
    how: Int8, model: Path, scratch: Path, calibration: Sequence[str], *, timeout_s: float = TIMEOUT_S
) -> Iterator[Sensitivity]:
    """Operator by operator, as it is measured. Raises PassFailed."""
    scratch.mkdir()
    for line in _lines("sensitivity", how, model, scratch, calibration, timeout_s):
        said = json.loads(line)
        if "error" in said:
            raise _failure(said["error"])
        yield Sensitivity(**said)


def _lines(do: str, chosen: Pass, model: Path, into: Path, calibration: Sequence[str], timeout_s: float) -> Iterator[str]:
    job = into.parent / f"{into.name}.json"
    words = {"pass": type(chosen).__name__, "settings": settings_of(chosen), "model": str(model), "into": str(into)}
    job.write_text(json.dumps({**words, "do": do, "calibration": list(calibration)}))
    process = subprocess.Popen(
        command("towline.optimize.host", str(job)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if do == "sensitivity":
            yield from process.stdout
        else:
            yield from process.communicate(timeout=timeout_s)[0].splitlines()
        code = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise PassFailed(f"The pass '{chosen.name}' took longer than {timeout_s:g} seconds.") from None
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    if code < 0:
        raise PassFailed(f"The process of the pass '{chosen.name}' was killed by {signal.Signals(-code).name}.")


def _failure(message: Any) -> TowlineError:
    error = error_from(message, PassFailed)
    if error.code == MissingExtra.code:
        return MissingExtra(error.message, hint=error.hint)
    return error
