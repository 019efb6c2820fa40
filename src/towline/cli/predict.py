"""`towline predict`: run a version on an input."""

from __future__ import annotations

import math
import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline.cli.output import emit, emit_json, printable, say
from towline.cli.params import home_option, json_option, read_key, refuse_secrets
from towline.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from towline.app.predicting import Prediction


@click.command("predict")
@click.argument("target", metavar="REF|URL")
@click.option("--input", "-i", "source", metavar="FILE", help="JSON, .npy or .npz; - reads JSON from stdin, the default in a pipe.")
@click.option("--output", "-o", metavar="FILE", help="Write the outputs to a new .npz file (.npy for a single output).")
@click.option("--timeout", "timeout_s", metavar="S", type=click.FloatRange(0.001, 86_400), default=60.0, show_default=True, help="Seconds.")
@click.option("--key-file", metavar="FILE", help="File with the server's key. TOWLINE_KEY works too.")
@click.option("--key", "secret", hidden=True)
@home_option
@json_option
def command(
    target: str,
    source: str | None,
    output: str | None,
    timeout_s: float,
    key_file: str | None,
    secret: str | None,
    home: str | None,
    as_json: bool,
) -> None:
    """Run a version from the store in this process, or a model on a running server.

    URL is a server's address, or http://HOST:PORT/v2/models/NAME[/versions/N]. Shapes include the batch axis: [[1, 2, 3]].
    """
    refuse_secrets(target, secret)
    place = _new_file(output, source) if output else None
    from towline.app.inputs import read_inputs
    from towline.app.predicting import predict

    inputs = read_inputs(source or _stdin())
    prediction = predict(target, inputs, home=home, timeout_s=timeout_s, key=read_key(key_file))
    if place is not None:
        _save(place, prediction.outputs)
        say(f"Written to {printable(place)}.")
    elif as_json:
        emit_json("towline.predict/1", {"outputs": [_output_json(name, array) for name, array in prediction.outputs.items()]})
    else:
        _print(prediction)


def _stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("There is no input.", hint="Give --input FILE, or pipe JSON in: echo '[[1, 2, 3]]' | towline predict digits")
    return "-"


def _new_file(output: str, source: str | None) -> Path:
    """Where the outputs go. Asked before the model runs, so that a typing error costs nothing."""
    place = Path(output)
    if place.suffix not in (".npz", ".npy"):
        raise UsageError(f"--output {output} must end in .npz or .npy.")
    if os.path.lexists(place):
        what = "is the input" if source and source != "-" and place.exists() and os.path.samefile(place, source) else "exists"
        raise UsageError(f"--output {output} {what}; nothing was changed.", hint="Name a new file.")
    if not place.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {place.parent}.", hint="Make it first.")
    return place


def _save(place: Path, outputs: dict[str, np.ndarray]) -> None:
    """The whole file or none: written beside, then linked to its name, which fails if someone took it meanwhile."""
    import numpy as np

    if place.suffix == ".npy" and len(outputs) != 1:
        raise UsageError(f"A .npy file holds one array, and there are {len(outputs)} outputs.", hint="Use .npz.")
    arrays = {name: _without_objects(array) for name, array in outputs.items()}
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        with beside.open("xb") as file:
            if place.suffix == ".npy":
                np.save(file, next(iter(arrays.values())), allow_pickle=False)
            else:
                # Not numpy.savez: an output may be called "file".
                with zipfile.ZipFile(file, "w") as archive:
                    for name, array in arrays.items():
                        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                            np.lib.format.write_array(member, array, allow_pickle=False)
        os.link(beside, place)
    except OSError as error:
        raise UsageError(f"--output {place}: {error.strerror}; nothing was written.", hint="Name another place.") from error
    finally:
        beside.unlink(missing_ok=True)


def _without_objects(array: np.ndarray) -> np.ndarray:
    return array.astype(bytes) if array.dtype == object else array


def _print(prediction: Prediction) -> None:
    import numpy as np

    for name, array in prediction.outputs.items():
        shown = _without_objects(array)
        dtype = "string" if array.dtype == object else array.dtype.name
        emit(f"{printable(name)} {dtype}[{','.join(map(str, array.shape))}]")
        emit(np.array2string(shown, max_line_width=100, threshold=200, precision=6))
        _print_labels(array, prediction.labels)


def _print_labels(array: np.ndarray, labels: tuple[str, ...]) -> None:
    """The best class of each row, where the output has one score per label."""
    if not labels or array.ndim != 2 or array.shape[1] != len(labels) or array.dtype.kind != "f":
        return
    for row in array[:10]:
        best = int(row.argmax())
        emit(f"-> {printable(labels[best])}  {row[best]:.4f}")
    if len(array) > 10:
        emit(f"-> and {len(array) - 10} more rows")


def _output_json(name: str, array: np.ndarray) -> dict[str, Any]:
    dtype = "string" if array.dtype == object else array.dtype.name
    return {"name": name, "dtype": dtype, "shape": list(array.shape), "data": _spelled(array.tolist())}


def _spelled(value: Any) -> Any:
    """JSON has no NaN and no bytes: NaN, Infinity and -Infinity become those words, bytes text."""
    if isinstance(value, list):
        return [_spelled(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
