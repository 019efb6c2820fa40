"""`towline ps`: list running servers and their models."""

from __future__ import annotations

import click

from towline.app.running import RunningServer, ps
from towline.cli.output import emit, emit_json, moment_words, say, say_error, table
from towline.cli.params import home_option, json_option


@click.command("ps")
@home_option
@json_option
def command(home: str | None, as_json: bool) -> None:
    """List the servers running on this machine from this store, and the models they have."""
    servers = ps(home=home)
    if as_json:
        emit_json("towline.ps/1", {"servers": [_server_json(server) for server in servers]})
        return
    if not servers:
        say("No server is running. Try 'towline serve MODEL'.")
        return
    rows = [
        (f"{model.name}:{model.version}", model.state, moment_words(model.since_s), model.pid or "-", server.url, server.pid)
        for server in servers
        for model in server.models
    ]
    rows += [("-", "-", moment_words(server.started_s), "-", server.url, server.pid) for server in servers if not server.models]
    emit(table(("MODEL", "STATE", "SINCE", "WORKER", "URL", "SERVER"), rows, right=("WORKER", "SERVER")))
    for server in servers:
        for model in server.models:
            if model.error:
                say_error(f"{model.name}:{model.version} on {server.url}: {model.error}")


def _server_json(server: RunningServer) -> dict[str, object]:
    return {
        "pid": server.pid,
        "url": server.url,
        "grpc_url": server.grpc_url,
        "started_s": server.started_s,
        "models": [
            {
                "name": model.name,
                "version": model.version,
                "digest": model.digest,
                "state": model.state,
                "since_s": model.since_s,
                "pid": model.pid,
                "error": model.error,
            }
            for model in server.models
        ],
    }
