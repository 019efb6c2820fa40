"""`towline conformance`: ask a server every clause of the protocols it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from towline.cli import exits
from towline.cli.output import emit, emit_json, printable, say, say_next
from towline.cli.params import json_option, read_key

if TYPE_CHECKING:
    from towline.app.conformance import Result


@click.command("conformance")
@click.option("--url", default="", metavar="URL", help="The server, http://HOST:PORT. Default: our own, started for it.")
@click.option("--grpc", default="", metavar="HOST:PORT", help="Its gRPC address; without one gRPC is not asked.")
@click.option("--only", default="", metavar="PROTOCOLS", help="Ask only these, separated by commas: v2-rest, tfserving-grpc, ….")
@click.option(
    "--write-model", "model", metavar="NAME", help="Write one of the suite's models, halves or echo, as NAME.onnx and ask nothing."
)
@click.option("--allow-remote", is_flag=True, help="Allow a server that is not this machine.")
@click.option("--key-file", metavar="FILE", help="File with the server's key. TOWLINE_KEY works too.")
@json_option
def command(url: str, grpc: str, only: str, model: str | None, allow_remote: bool, key_file: str | None, as_json: bool) -> int:
    """Ask a server every clause of TF Serving's, the Open Inference, the gRPC-Web and the GraphQL contract.

    The server must serve the suite's models, halves and echo, under these names. Exit code 3 when a MUST is not kept.
    """
    from towline.app.conformance import Asked, conformance, fails, write_model

    if model is not None:
        write_model(model, Path(f"{model}.onnx"))
        say(f"Written to {printable(model)}.onnx. Load it into the server as '{printable(model)}'.")
        return exits.OK
    asked = Asked(url, grpc, tuple(name.strip() for name in only.split(",") if name.strip()), allow_remote, read_key(key_file))
    results = conformance(asked, (lambda result: None) if as_json else _show)
    if as_json:
        emit_json("towline.conformance/1", {"url": url, "results": [_row(result) for result in results], "passes": not fails(results)})
    else:
        _sum_up(results)
    return exits.GATE if fails(results) else exits.OK


def _show(result: Result) -> None:
    check = result.check
    emit(f"{result.status.value:4}  {check.level.value:6}  {check.id:38}  {result.reason or check.words}")
    if result.expected:
        emit(f"        sent      {result.sent}\n        expected  {result.expected}\n        got       {result.got}")


def _row(result: Result) -> dict[str, str]:
    check = result.check
    return {
        "id": check.id,
        "level": check.level.value,
        "clause": check.words,
        "status": result.status.value,
        "sent": result.sent,
        "expected": result.expected,
        "got": result.got,
        "reason": result.reason,
    }


def _sum_up(results: list[Result]) -> None:
    counts = {status: sum(result.status.value == status for result in results) for status in ("pass", "fail", "skip")}
    say(f"{counts['pass']} passed, {counts['fail']} failed, {counts['skip']} skipped.")
    if counts["skip"] == len(results):
        say_next("towline conformance --write-model halves")
