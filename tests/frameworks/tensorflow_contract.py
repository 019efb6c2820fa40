"""Hold the engine of TensorFlow to its contract: `python tensorflow_contract.py FOLDER`, in the environment."""

import sys
import threading
from pathlib import Path

import numpy as np

from towline.core.engine import EngineOptions
from towline.core.errors import EngineError
from towline.core.manifest import DEFAULT_SIGNATURE, Facts, Manifest, Measured, Origin
from towline.engines.tensorflow import TensorFlowEngine
from towline.testing.engine_contract import check_engine

ENGINE = TensorFlowEngine()
REQUESTS = {
    "exported": {"image": np.ones((2, 8, 8, 3), np.float32)},
    "text": {"text": np.array([b"cat", b"\xc3\xa9mu"], dtype=object)},
    "session": {"x": np.ones((2, 4), np.float32)},
}


def manifest(folder: Path) -> Manifest:
    signature = ENGINE.describe(folder, "saved_model.pb")
    measured = Measured("any", True, 0, 0, 256)
    origin = Origin("TensorFlow", "sha256:0")
    return Manifest(1, "tensorflow", "saved_model.pb", {DEFAULT_SIGNATURE: signature}, True, origin, Facts(0, {}, {}), measured)


def check_that_a_run_can_be_stopped(folder: Path) -> None:
    session = ENGINE.load(folder, manifest(folder), EngineOptions())
    said: list[str] = []

    def spin() -> None:
        try:
            session.run({"turns": np.array(1 << 60)}, slot=3)
        except EngineError as error:
            said.append(error.code)

    thread = threading.Thread(target=spin)
    thread.start()
    while thread.is_alive():
        session.terminate(3)
        thread.join(0.05)
    assert said == ["TERMINATED"], said
    assert session.run({"turns": np.array(9)}, slot=3)[0] == 9


if __name__ == "__main__":
    for name, request in REQUESTS.items():
        check_engine(ENGINE, Path(sys.argv[1]) / name, manifest(Path(sys.argv[1]) / name), request)
    check_that_a_run_can_be_stopped(Path(sys.argv[1]) / "spin")
