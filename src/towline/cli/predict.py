"""`towline predict`: run a version on an input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline.cli.output import emit, emit_json, printable, say
from towline.cli.params import home_option, json_option, label_option, limit_option, read_key, refuse_secrets
from towline.core.errors import UsageError
from towline.core.new_file import free_place, new_file
from towline.core.spelling import spelled

if TYPE_CHECKING:
    import numpy as np

    from towline.app.predicting.predict import Prediction


@click.command("predict")
@click.argument("target", metavar="REF|URL")
@click.option("--input", "-i", "source", metavar="FILE", help="JSON, .npy or .npz; - reads stdin, the default in a pipe.")
@click.option("--data", metavar="PATH", help="Every row of a .npz, .csv, .parquet, .jsonl or folder of pictures, into --output.")
@click.option(
    "--output", "--out", "-o", metavar="FILE", help="A new .npz (.npy for a single output); with --data also .csv, .jsonl, .parquet."
)
@label_option
@limit_option
@click.option(
    "--timeout",
    "timeout_s",
    metavar="S",
    type=click.FloatRange(0.001, 86_400),
    default=60.0,
    show_default=True,
    help="Seconds that an answer may take.",
)
@click.option("--key-file", metavar="FILE", help="File with the server's key. TOWLINE_KEY works too.")
@click.option("--key", "secret", hidden=True)
@home_option
@json_option
def command(
    target: str,
    source: str | None,
    data: str | None,
    output: str | None,
    label: str,
    limit: int | None,
    timeout_s: float,
    key_file: str | None,
    secret: str | None,
    home: str | None,
    as_json: bool,
) -> None:
    """Run a version from the store in this process, or a model on a running server.

    URL is a server's address, or http://HOST:PORT/v2/models/NAME[/versions/N]. Shapes include the batch axis: [[1, 2, 3]].
    With --data a version from the store answers a whole data set, in a worker process, into a file.
    """
    refuse_secrets(target, secret)
    if data is not None:
        _refuse_beside_data(target, source, output)
        assert output is not None
        _predict_all(target, data, output, label, limit or 0, timeout_s, home, as_json)
        return
    if label or limit:
        raise UsageError("--label and --limit go with --data.")
    place = _new_file(output, source) if output else None
    from towline.app.predicting.inputs import read_inputs
    from towline.app.predicting.predict import predict

    inputs = read_inputs(source or _stdin())
    prediction = predict(target, inputs, home=home, timeout_s=timeout_s, key=read_key(key_file))
    if place is not None:
        _save(place, prediction.outputs)
        say(f"Written to {printable(place)}.")
    elif as_json:
        emit_json("towline.predict/1", {"outputs": [_output_json(name, array) for name, array in prediction.outputs.items()]})
    else:
        _print(prediction)


def _refuse_beside_data(target: str, source: str | None, output: str | None) -> None:
    if source is not None:
        raise UsageError("--input and --data are both given; an input is one request, data are rows.", hint="Give one of them.")
    if output is None:
        raise UsageError("--data needs --output: a new .csv, .jsonl, .parquet or .npz file.", hint="Add --output answers.csv")
    if target.startswith(("http://", "https://")):
        raise UsageError(
            "--data runs a version from the store, and not on a server.", hint="Name the version: towline predict digits:3 --data …"
        )


def _predict_all(target: str, data: str, output: str, label: str, limit: int, timeout_s: float, home: str | None, as_json: bool) -> None:
    from towline.app.predicting.data_set import predict_all
    from towline.cli.judged_words import bar

    with bar("rows") as progress:
        written = predict_all(target, data, output, label=label, limit=limit, home=home, timeout_s=timeout_s, progress=progress)
    if as_json:
        told = {"file": str(written.place), "rows": written.rows, "digest": written.version.digest, "data": written.data}
        emit_json("towline.predict/1", {"outputs": [], "written": told})
    else:
        say(f"{written.version} answered {written.rows:,} rows. Written to {printable(written.place)}.")


def _stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("There is no input.", hint="Give --input FILE, or pipe JSON in: echo '[[1, 2, 3]]' | towline predict digits")
    return "-"


def _new_file(output: str, source: str | None) -> Path:
    if Path(output).suffix not in (".npz", ".npy"):
        raise UsageError(f"--output {output} must end in .npz or .npy.", hint="With --data also .csv, .jsonl and .parquet.")
    return free_place(output, "--output", None if source == "-" else source)


def _save(place: Path, outputs: dict[str, np.ndarray]) -> None:
    import numpy as np

    from towline.core.npz import without_objects, write_npz

    if place.suffix == ".npy" and len(outputs) != 1:
        raise UsageError(f"A .npy file holds one array, and there are {len(outputs)} outputs.", hint="Use .npz.")
    with new_file(place, "--output") as file:
        if place.suffix == ".npy":
            np.save(file, without_objects(next(iter(outputs.values()))), allow_pickle=False)
        else:
            write_npz(file, outputs)


def _print(prediction: Prediction) -> None:
    import numpy as np

    from towline.core.npz import without_objects

    for name, array in prediction.outputs.items():
        shown = without_objects(array)
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
    return {"name": name, "dtype": dtype, "shape": list(array.shape), "data": spelled(array.tolist())}
