"""`towline serve`: answer requests for model files or versions."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import click

from towline.app.home import find_settings
from towline.app.options import ServeOptions
from towline.cli.params import home_option, labels_option, preset_option, processing_option
from towline.cli.tfserving_flags import take, tfserving_options
from towline.core.config import home_folder
from towline.core.errors import UsageError


@click.command("serve")
@click.argument("refs", nargs=-1, metavar="[FILE|REF]...")
@click.option("--host", metavar="ADDRESS", help="Address to listen on. Default: 127.0.0.1, this machine only.")
@click.option("--port", metavar="N", help="HTTP port. Default: 8000; 0 takes a free one.")
@click.option("--grpc-port", metavar="N", help="gRPC port. Default: 8001; 0 takes a free one, -1 serves no gRPC.")
@click.option(
    "--grpc", "grpc_server", metavar="aio|native", help="The server of gRPC: aio (default), or native, cheaper and with fewer limits."
)
@home_option
@click.option("--drain-timeout", "drain_timeout_s", metavar="S", help="Seconds that requests in flight get to finish at the end.")
@click.option("--isolation", metavar="process|none", help="Where a model runs: a process of its own (default), or this one.")
@click.option("--instances", metavar="N", help="Workers that each version runs in at a time. Default: 1.")
@click.option("--threads", metavar="N", help="Threads that one run of a model may use. Default: as `towline tune` found, else 1.")
@click.option("--runs", metavar="N", help="Runs at a time in each worker. Default: as `towline tune` found, else one per core.")
@click.option("--device", metavar="NAME", help="Device to load on: cpu (default), cuda:0, ….")
@click.option("--watch", multiple=True, metavar="DIR", help="Serve the numbered versions in DIR as they appear. May be repeated.")
@labels_option
@processing_option
@preset_option
@click.option("--cors-origins", metavar="ORIGINS", help="Origins of web pages that may use this server from a browser, or *.")
@click.option("--compat", metavar="none|tfserving|triton|torchserve", help="Take another server's ports and habits. Default: none.")
@tfserving_options
@click.option("--model-control", metavar="none|explicit", help="Whether clients may load and unload models. Default: none.")
@click.option(
    "--include", "--model-file", "include", multiple=True, metavar="PATH", help="A file or folder that a handler needs. May be repeated."
)
@click.option("--python", metavar="FILE", default="", help="The Python of the environment that a handler runs in. Default: this one.")
@click.option("--insecure", is_flag=True, default=None, help="Allow listening beyond this machine without keys and TLS.")
@click.option("--auth", metavar="auto|keys|off", help="Ask for keys: once one was made (auto, the default), always, or never.")
@click.option("--force", is_flag=True, help="Load a version even when its measured memory does not fit.")
@click.pass_obj
def command(
    begun: Any,
    /,
    refs: tuple[str, ...],
    watch: tuple[str, ...],
    labels: str | None,
    processing: str | None,
    preset: str,
    include: tuple[str, ...],
    python: str,
    force: bool,
    **flags: Any,
) -> int | None:
    """Answer requests for model files and handlers (imported first), for versions such as digits:3, or for what the store deploys.

    Labels, processing and preset are those of the one model file that is then named.
    """
    tfserving = take(flags, find_settings({"compat": flags["compat"]}).settings.compat)
    loaded = find_settings(flags)
    options = ServeOptions(
        home=home_folder(loaded.settings, os.environ),
        settings=loaded.settings,
        refs=refs,
        watch=tuple(_watched(folder) for folder in watch),
        force=force,
        given=_given(refs, labels=labels, processing=processing, preset=preset),
        origin=loaded.origin,
        include=tuple(map(Path, include)),
        tfserving=tfserving,
        python=python,
    )
    # By name: the rooms behind it are only loaded when something is to be served.
    code: int | None = importlib.import_module("towline.app.serving.serve").serve_command(options, begun)
    return code


def _given(refs: tuple[str, ...], **given: str | None) -> dict[str, str]:
    """What goes with the model file, paths made absolute; nothing for a version, which has its own sealed in."""
    named = {name: value for name, value in given.items() if value}
    if named and (len(refs) != 1 or not Path(refs[0]).is_file()):
        raise UsageError(
            f"--{next(iter(named))} goes with one model file, which is imported first.",
            hint="Name one: towline serve model.onnx; or import each with its own: towline import.",
        )
    return {name: value if name == "preset" else str(Path(value).absolute()) for name, value in named.items()}


def _watched(folder: str) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise UsageError(f"--watch {folder} is not a folder.", hint="Name a folder that holds numbered versions: DIR/1/model.onnx.")
    return path.absolute()
