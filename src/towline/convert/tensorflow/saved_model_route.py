"""The route without a conversion: a SavedModel for the engine `tensorflow`, the original's files or one that we write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from towline.convert import wording
from towline.convert.base import ConversionFailed, Converted
from towline.convert.tensorflow.program import FAILURES, Program

if TYPE_CHECKING:
    from towline.convert.tensorflow.source import TensorFlowSource

FOLDER = "saved_model"
MODEL_FILE = f"{FOLDER}/saved_model.pb"
# A name that TensorFlow cannot give to an argument is told by its place (engines/tensorflow.py).
PLACES = "place_{:04d}"


def convert(source: TensorFlowSource, into: Path) -> Converted:
    """Raises ConversionFailed."""
    folder = into / FOLDER
    if source.original is not None:
        copy_saved_model(source.original, folder)
    else:
        _write(source, folder)
    return Converted(dict.fromkeys(source.programs, MODEL_FILE), engine="tensorflow", environment="tensorflow")


def copy_saved_model(original: Path, folder: Path) -> None:
    """The graph, its variables and assets, all as regular files."""
    folder.mkdir()
    shutil.copyfile(original / "saved_model.pb", folder / "saved_model.pb")
    for part in ("variables", "assets"):
        for root, _, names in os.walk(original / part):
            place = folder / Path(root).relative_to(original)
            place.mkdir()
            for name in names:
                shutil.copyfile(Path(root, name), place / name)


def _write(source: TensorFlowSource, folder: Path) -> None:
    module = tf.Module()
    module.model = source.model
    module.held = [list(program.function.graph.variables) for program in source.programs.values()]
    try:
        signatures = {name: named_function(program) for name, program in source.programs.items()}
        tf.saved_model.save(module, str(folder), signatures=signatures)
    except FAILURES as error:
        said = wording.sentence(str(error).partition("\n")[0], hidden=(str(folder),))
        raise ConversionFailed(f"TensorFlow cannot save this as a SavedModel: {said}") from error
    # Its unique id is random: the same source is to give the same version.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def named_function(program: Program) -> Any:
    """A function whose arguments and answers are named as the signature's."""
    names = list(program.inputs)
    outputs = list(program.outputs)
    if not all(name.isidentifier() for name in (*names, *outputs)):
        names = [PLACES.format(place) for place in range(len(names))]
        outputs = [PLACES.format(place) for place in range(len(outputs))]

    def serve(*tensors: Any) -> dict[str, Any]:
        answer = program.function(**dict(zip(program.inputs, tensors, strict=True))) if program.keywords else program.function(*tensors)
        return dict(zip(outputs, tf.nest.flatten(answer), strict=True))

    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in zip(names, program.inputs.values(), strict=True)]
    return tf.function(serve, autograph=False).get_concrete_function(*specs)
