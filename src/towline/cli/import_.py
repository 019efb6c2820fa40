"""`towline import`: check and measure a model file, and store it as a version."""

from __future__ import annotations

from pathlib import Path

import click

from towline.cli.output import emit, emit_json, printable, say, say_next
from towline.cli.params import NameParam, home_option, json_option, labels_option, preset_option, processing_option, why_option


@click.command("import")
@click.argument("file")
@click.option("--name", type=NameParam(), help="The model's name. Default: the file's name without .onnx.")
@labels_option
@click.option(
    "--sample",
    metavar="FILE",
    help="An example input (.npz, .npy, JSON; a picture, WAV or text) to try the model with, and to keep as golden requests.",
)
@processing_option
@preset_option
@click.option("--fuse", is_flag=True, help="Write the steps of processing into the graph; refused when it then answers otherwise.")
@click.option(
    "--include", "--model-file", "include", multiple=True, metavar="PATH", help="A file or folder that a handler needs. May be repeated."
)
@click.option("--python", metavar="FILE", default="", help="The Python of the environment that a handler runs in. Default: this one.")
@why_option
@home_option
@json_option
def command(
    file: str,
    name: str | None,
    labels: str | None,
    sample: str | None,
    processing: str | None,
    preset: str,
    fuse: bool,
    include: tuple[str, ...],
    python: str,
    why: str,
    home: str | None,
    as_json: bool,
) -> None:
    """Check and measure the model FILE, or the handler FILE.py:CLASS, in processes of their own, and store it as NAME's next version.

    The same file with the same labels, sample and processing is stored once: importing it again names the version there is.
    """
    from towline.app.importing import import_model

    result = import_model(
        file,
        name=name,
        labels=Path(labels) if labels else None,
        sample=Path(sample) if sample else None,
        processing=Path(processing) if processing else None,
        preset=preset,
        fuse=fuse,
        include=include,
        python=python,
        message=why,
        home=home,
        progress=lambda sentence: say(f"  {printable(sentence)}"),
    )
    version, report = result.version, result.report
    if as_json:
        content = {"name": version.name, "version": version.number, "digest": version.digest, "existed": result.existed}
        emit_json("towline.import/1", {**content, "report": report.as_json()})
        return
    for line in report.lines():
        say(f"  {printable(line)}")
    emit(f"{version} {'was there already' if result.existed else 'imported'}  {version.digest}")
    say_next(f"towline show {version}", f"towline serve {version}", f"towline alias {version} champion")
