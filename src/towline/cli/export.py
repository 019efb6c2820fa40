"""`towline export`: write a version as a file that other programs run."""

from __future__ import annotations

import click

from towline.cli.output import emit, emit_json, printable, say_step, size_words
from towline.cli.params import RefParam, home_option, json_option, why_option
from towline.core.refs import Ref


@click.command("export")
@click.argument("ref", type=RefParam())
@click.option("--to", "to", type=click.Choice(("onnx", "tflite")), required=True, help="What kind of file.")
@click.option("--out", metavar="FILE", required=True, help="Where to write it. Several files make a folder of this name.")
@click.option("--overwrite", is_flag=True, help="Replace a file that is there already.")
@why_option
@home_option
@json_option
def command(ref: Ref, to: str, out: str, overwrite: bool, why: str, home: str | None, as_json: bool) -> None:
    """Write the version REF as ONNX, or converted to TensorFlow Lite for devices: only if its answers are then those of the version."""
    from towline.app.exporting.export import export

    done = export(ref, to=to, out=out, overwrite=overwrite, message=why, home=home, progress=say_step)
    if as_json:
        about = {"name": done.version.name, "version": done.version.number, "digest": done.version.digest}
        proof = None if done.parity is None else done.parity.as_json()
        where = {"path": str(done.path), "files": list(done.files), "size_bytes": done.size_bytes}
        emit_json("towline.export/1", {**about, "format": done.format, **where, "parity": proof, "notes": list(done.notes)})
        return
    for line in (*(done.parity.lines() if done.parity else ()), *done.notes):
        say_step(line)
    emit(f"{done.version} exported  {size_words(done.size_bytes)}  {printable(done.path)}")
