"""`towline import`: check and measure a model file, and store it as a version."""

from __future__ import annotations

from pathlib import Path

import click

from towline.cli.output import emit, emit_json, printable, say_next, say_step
from towline.cli.params import NameParam, home_option, json_option, labels_option, preset_option, processing_option, why_option


@click.command("import")
@click.argument("source")
@click.option("--name", type=NameParam(), help="The model's name. Default: the file's name without .onnx and the like.")
@labels_option
@click.option(
    "--sample",
    metavar="FILE",
    help="Example inputs (.npz, .npy, JSON, .csv; a picture, WAV or text; a folder of such) to try it with and keep as golden requests.",
)
@processing_option
@preset_option
@click.option("--fuse", is_flag=True, help="Write the steps of processing into the graph; refused when it then answers otherwise.")
@click.option(
    "--include", "--model-file", "include", multiple=True, metavar="PATH", help="A file or folder that a handler needs. May be repeated."
)
@click.option("--python", metavar="FILE", default="", help="The Python of the environment that a handler runs in. Default: this one.")
@click.option("--arch", metavar="FILE.py:CLASS", default="", help="The code of weights: a file and its class, or torchvision:resnet50.")
@click.option("--input", metavar="SPEC", default="", help="What the source takes, where it does not say: float32[N,3,224,224].")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="More words for the importer. May be repeated.")
@click.option("--tolerance", type=float, metavar="SHARE", help="Tighten how far an answer may lie from the source's: a share of its range.")
@click.option("--against", metavar="SOURCE", help="What an ONNX file was converted from: it is proven equal to that.")
@click.option(
    "--data", metavar="PATH", help="Labelled data (.npz, .csv, .jsonl, .parquet): accuracy or error of source and version, in the report."
)
@click.option("--trust-this-file", is_flag=True, help="You vouch for the source: code in it runs, also where no wall stands.")
@why_option
@home_option
@json_option
def command(
    source: str,
    name: str | None,
    labels: str | None,
    sample: str | None,
    processing: str | None,
    preset: str,
    fuse: bool,
    include: tuple[str, ...],
    python: str,
    arch: str,
    input: str,
    options: tuple[str, ...],
    tolerance: float | None,
    against: str | None,
    data: str | None,
    trust_this_file: bool,
    why: str,
    home: str | None,
    as_json: bool,
) -> None:
    """Check and measure the model SOURCE in processes of its own, and store it as NAME's next version.

    SOURCE is an ONNX file; what PyTorch, TensorFlow, Keras, TensorFlow Lite, scikit-learn or LightGBM left behind, a file or a folder,
    which is converted and taken only when it then answers as the source does; a URL of one of these (https, s3, gs, az, hdfs); or a
    handler, FILE.py:CLASS.

    The same source with the same labels, sample and processing is stored once: importing it again names the version there is.
    """
    from towline.app.importing.model import import_model

    result = import_model(
        source,
        name=name,
        labels=Path(labels) if labels else None,
        sample=Path(sample) if sample else None,
        processing=Path(processing) if processing else None,
        preset=preset,
        fuse=fuse,
        include=include,
        python=python,
        arch=arch,
        input=input,
        options=_pairs(options),
        tolerance=tolerance,
        against=against,
        data=data,
        trust_this_file=trust_this_file,
        message=why,
        home=home,
        progress=say_step,
    )
    version, report = result.version, result.report
    if as_json:
        content = {"name": version.name, "version": version.number, "digest": version.digest, "existed": result.existed}
        emit_json("towline.import/1", {**content, "report": report.as_json()})
        return
    for line in report.lines():
        say_step(line)
    emit(f"{version} {'was there already' if result.existed else 'imported'}  {version.digest}")
    say_next(f"towline show {version}", f"towline serve {version}", f"towline alias {version} champion")


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` as a mapping."""
    wrong = next((word for word in words if not word.partition("=")[0] or "=" not in word), None)
    if wrong is not None:
        raise click.BadParameter(f"'{printable(wrong)}' is not KEY=VALUE.", param_hint="--option")
    return dict(word.split("=", 1) for word in words)
