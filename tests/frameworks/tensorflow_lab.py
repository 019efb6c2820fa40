"""Load sources with our importer, answer and convert each: `python tensorflow_lab.py TASKS.json FOLDER`, in the environment.

One process for all of them, because the import of TensorFlow is what takes the time. Writes FOLDER/report.json and, per source, the
request and the answer of each signature, and what each route wrote.
"""

import json
import sys
from pathlib import Path

import msgspec
import numpy as np

from towline.convert.base import Task
from towline.convert.tensorflow.importer import TensorFlowImporter
from towline.core.errors import TowlineError
from towline.core.manifest import Signature


def main(tasks: Path, folder: Path) -> None:
    report = {}
    for name, task in json.loads(tasks.read_text()).items():
        place = folder / name
        place.mkdir()
        (place / "scratch").mkdir()
        try:
            options, trusted = task.get("options", {}), task.get("trusted", False)
            report[name] = tried(Task(Path(task["source"]), place / "scratch", task["kind"], options, trusted), place)
        except TowlineError as error:
            report[name] = {"code": error.code, "message": error.message, "field": error.field, "hint": error.hint}
    (folder / "report.json").write_bytes(msgspec.json.encode(report))


def tried(task: Task, place: Path) -> dict[str, object]:
    source = TensorFlowImporter().load(task)
    routes: dict[str, object] = {}
    for number, (name, signature) in enumerate(source.signatures.items()):
        feeds = request(signature)
        answer = source.answer(feeds, signature=name)
        np.savez(place / f"feeds-{number}.npz", **{key: plain(value) for key, value in feeds.items()})
        np.savez(place / f"answer-{number}.npz", **{key: plain(value) for key, value in answer.items()})
    first = next(iter(source.signatures))
    layers = [(one.name, one.kind) for one in source.layers(request(source.signatures[first]), signature=first)]
    for route in source.routes:
        (place / route).mkdir()
        try:
            routes[route] = source.convert(route, place / route)
        except TowlineError as error:
            routes[route] = {"code": error.code, "message": error.message}
    # Converting leaves the source as it was.
    for name, signature in source.signatures.items():
        source.answer(request(signature), signature=name)
    return {
        "signatures": source.signatures,
        "parameters": source.parameters,
        "notes": source.notes,
        "facts": source.facts,
        "layers": layers,
        "routes": routes,
    }


def request(signature: Signature) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    feeds = {}
    for spec in signature.inputs:
        shape = [3 if isinstance(dim, str) else dim for dim in spec.shape or ()]
        words = np.array([b"cat", b"dog", b"\xc3\xa9mu"], dtype=object)
        feeds[spec.name] = words if spec.dtype == "string" else np.asarray(random.random(shape)).astype(spec.dtype)
    return feeds


def plain(array: np.ndarray) -> np.ndarray:
    return array.astype("S") if array.dtype == object else array


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
