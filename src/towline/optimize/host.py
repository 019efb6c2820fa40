"""The main of a process that runs one pass: `host JOB.json`, which writes the model and prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from towline.core.errors import TowlineError
from towline.core.frames import decode_frame
from towline.core.worker_messages import error_message
from towline.optimize.base import Pass
from towline.optimize.graph import Half, Slim
from towline.optimize.quantize import DynamicInt8, Int8
from towline.optimize.sensitivity import sensitivities

KINDS: dict[str, type[Any]] = {"Slim": Slim, "Half": Half, "Int8": Int8, "DynamicInt8": DynamicInt8}


def pass_of(kind: str, settings: dict[str, Any]) -> Pass:
    """The pass that these words mean; lists among the settings are tuples."""
    found: Pass = KINDS[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})
    return found


def main(arguments: list[str]) -> int:
    job = json.loads(Path(arguments[0]).read_text())
    # What libraries print is talk, not the answer.
    answer = os.dup(1)
    os.dup2(2, 1)
    calibration = [decode_frame(Path(name).read_bytes()) for name in job["calibration"]]
    model, into = Path(job["model"]), Path(job["into"])
    with os.fdopen(answer, "w") as out:
        try:
            chosen = pass_of(job["pass"], job["settings"])
            if job["do"] == "sensitivity":
                assert isinstance(chosen, Int8)
                for one in sensitivities(model, into, calibration, chosen):
                    out.write(json.dumps(asdict(one)) + "\n")
                    out.flush()
            else:
                out.write(json.dumps({"ok": asdict(chosen.run(model, into, calibration))}) + "\n")
        except TowlineError as error:
            out.write(json.dumps({"error": error_message(error)}) + "\n")
        except Exception as error:
            # The outermost frame of the process.
            traceback.print_exc()
            out.write(json.dumps({"error": {"code": "PASS_FAILED", "message": f"The pass failed: {type(error).__name__}."}}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
