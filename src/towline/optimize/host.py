"""The main of a process that runs one pass: `host JOB.json`, which writes the model and prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from towline.core.errors import TowlineError
from towline.core.frames import decode_frame
from towline.core.worker_messages import error_message
from towline.optimize.base import Judge, Material
from towline.optimize.passes import pass_of
from towline.optimize.quantize import Int8
from towline.optimize.rows import labelled_batches
from towline.optimize.sensitivity import MOST_ROWS, sensitivities


def main(arguments: list[str]) -> int:
    replies: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(replies,), daemon=True).start()
    job = json.loads(Path(arguments[0]).read_text())
    # What libraries print is talk, not the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    calibration = [decode_frame(Path(name).read_bytes()) for name in job["calibration"]]
    model, into = Path(job["model"]), Path(job["into"])
    with os.fdopen(answer, "w") as out:

        def say(sentence: str) -> None:
            out.write(json.dumps({"say": sentence}) + "\n")
            out.flush()

        def of(answers: np.ndarray) -> float:
            asked = into.parent / f"{into.name}.answers.npy"
            np.save(asked, answers, allow_pickle=False)
            out.write(json.dumps({"judge": str(asked)}) + "\n")
            out.flush()
            return float(replies.get())

        judge = Judge(**job["judge"], of=of) if job["judge"] else None
        material = Material(calibration, _path(job["rows"]), _path(job["keep"]), say, judge)
        try:
            chosen = pass_of(job["pass"], job["settings"])
            if job["do"] == "sensitivity":
                assert isinstance(chosen, Int8)
                size = len(next(iter(calibration[0].values()), ()))
                more = labelled_batches(material.rows, size, MOST_ROWS // size) if material.rows and job["output"] else ()
                for one in sensitivities(model, into, calibration, chosen, job["output"], more):
                    out.write(json.dumps(asdict(one)) + "\n")
                    out.flush()
            else:
                out.write(json.dumps({"ok": asdict(chosen.run(model, into, material))}) + "\n")
        except TowlineError as error:
            out.write(json.dumps({"error": error_message(error)}) + "\n")
        except Exception as error:
            # The outermost frame of the process.
            traceback.print_exc()
            out.write(json.dumps({"error": {"code": "PASS_FAILED", "message": f"The pass failed: {type(error).__name__}."}}) + "\n")
    return 0


def _listen(replies: SimpleQueue[str]) -> None:
    """To what a judge says, a line each, one at a time. Whoever started us may be killed at any moment, and start the same pass again: two
    must not write into one folder."""
    said = b""
    while more := os.read(0, 4096):
        said += more
        if said.endswith(b"\n"):
            replies.put(said.decode())
            said = b""
    os._exit(1)


def _path(name: str) -> Path | None:
    return Path(name) if name else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
