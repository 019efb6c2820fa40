"""What we rely on in uvicorn's semi-private classes: an upgrade that moves any of it fails here, by name, and not in a connection."""

from __future__ import annotations

import ast
import asyncio
import inspect
import socket
from pathlib import Path
from typing import Any

import httptools
import pytest
import uvicorn
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import Server, ServerState

import towline.serve.http_server
from towline.core.config import Settings
from towline.serve.protocols.answers import AnsweringProtocol
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.gate import Gate
from towline.serve.protocols.http import GuardedProtocol, protocol_for
from towline.serve.protocols.table import RouteTable

OURS = (AnsweringProtocol, GuardedProtocol)


async def _app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def _config() -> uvicorn.Config:
    config = uvicorn.Config(_app, http=HttpToolsProtocol, ws="none", lifespan="off", log_config=None, access_log=False)
    config.load()
    return config


def _parameters(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


# Ours that replace uvicorn's: it calls them, with these arguments.
CALLED_BY_UVICORN = {
    "__init__": ["config", "server_state", "app_state", "_loop"],
    "connection_made": ["transport"],
    "connection_lost": ["exc"],
    "data_received": ["data"],
    "on_message_begin": [],
    "on_url": ["url"],
    "on_header": ["name", "value"],
    "on_headers_complete": [],
    "on_body": ["body"],
    "on_message_complete": [],
    "_start_asgi_task": ["cycle", "app"],
    "on_response_complete": [],
    "pause_writing": [],
    "resume_writing": [],
    "shutdown": [],
    "eof_received": [],
}


@pytest.mark.parametrize("name", CALLED_BY_UVICORN)
def test_a_method_of_the_protocol_that_we_replace_or_call_is_there_with_its_arguments(name: str) -> None:
    assert _parameters(getattr(HttpToolsProtocol, name)) == CALLED_BY_UVICORN[name]


def test_what_of_ours_has_the_name_of_uvicorns_is_meant_to() -> None:
    """A new method of uvicorn's must not be one of ours by accident."""
    shared = {name for cls in OURS for name in vars(cls) if name in vars(HttpToolsProtocol) and not name.startswith("__")}

    assert shared <= set(CALLED_BY_UVICORN)


def test_the_protocol_has_the_attributes_that_we_read_and_write() -> None:
    loop = asyncio.new_event_loop()
    try:
        server = Server(_config())
        protocol = HttpToolsProtocol(config=server.config, server_state=server.server_state, app_state={}, _loop=loop)
    finally:
        loop.close()
    assert isinstance(protocol.parser, httptools.HttpRequestParser)
    assert protocol.cycle is None
    assert protocol.expect_100_continue is False
    assert protocol.connections is server.server_state.connections
    assert protocol.server_state.total_requests == 0
    assert protocol.loop is loop
    # Taken from the right, put in on the left, in pairs of a cycle and its app.
    assert (len(protocol.pipeline), hasattr(protocol.pipeline, "appendleft")) == (0, True)
    assert {"transport", "flow", "url", "headers", "client"} <= set(_assigned(HttpToolsProtocol))


def test_no_other_attribute_of_the_base_class_is_touched() -> None:
    """Whoever begins to use another must add it above."""
    assigned, defined = ({name for cls in OURS for name in names(cls)} for names in (_assigned, vars))
    own = (assigned - set(_assigned(HttpToolsProtocol))) | defined | {"gate"}
    named = {
        "parser",
        "cycle",
        "expect_100_continue",
        "connections",
        "server_state",
        "loop",
        "pipeline",
        "transport",
        "flow",
        "url",
        "headers",
        "client",
    }
    used = {
        node.attr
        for cls in OURS
        for node in ast.walk(ast.parse(inspect.getsource(cls)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    assert used - own - named - set(CALLED_BY_UVICORN) == set()


def test_a_cycle_has_what_an_exchange_stands_in_for() -> None:
    assert {"response_complete", "keep_alive", "disconnected", "message_event"} <= set(_assigned(RequestResponseCycle))
    exchange = Exchange()
    exchange.disconnected = True
    exchange.message_event.set()
    assert (exchange.response_complete, exchange.keep_alive) == (False, True)
    assert _parameters(RequestResponseCycle)[-1] == "on_response"


def test_flow_control_pauses_and_resumes_each_way() -> None:
    flow = FlowControl(_Paused())  # type: ignore[arg-type]
    assert (flow.read_paused, flow.write_paused) == (False, False)
    flow.pause_reading()
    flow.pause_writing()
    assert (flow.read_paused, flow.write_paused) == (True, True)
    flow.resume_reading()
    flow.resume_writing()
    assert (flow.read_paused, flow.write_paused) == (False, False)


class _Paused:
    def pause_reading(self) -> None:
        return

    resume_reading = pause_reading


def test_the_server_has_what_the_front_uses() -> None:
    server = Server(_config())
    assert (server.should_exit, server.started) == (False, False)
    assert _parameters(Server.serve) == ["sockets"]
    assert _parameters(Server.capture_signals) == []
    assert isinstance(server.server_state, ServerState)
    known = set(inspect.signature(uvicorn.Config).parameters)
    assert _keywords_given(towline.serve.http_server, "Config") <= known
    assert {"http", "timeout_graceful_shutdown", "backlog"} <= _keywords_given(towline.serve.http_server, "Config")


def test_the_parser_has_what_we_call() -> None:
    parser = httptools.HttpRequestParser(object())
    for name in ("feed_data", "get_http_version", "get_method", "should_keep_alive", "should_upgrade", "set_dangerous_leniencies"):
        assert callable(getattr(parser, name))
    assert issubclass(httptools.HttpParserCallbackError, httptools.HttpParserError)
    assert not issubclass(httptools.HttpParserUpgrade, httptools.HttpParserError)


def test_an_upgrade_offer_tells_where_what_follows_begins() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as offer:
        httptools.HttpRequestParser(object()).feed_data(head + b"rest")
    assert offer.value.args == (len(head),)


def test_what_no_route_takes_still_falls_through_to_the_app() -> None:
    """uvicorn's own cycle, in line with ours: the way of every later page that is not on the fast path."""
    gate = Gate(RouteTable([]), Settings(), clock=lambda: 1.0, boot_id="x", has_fallback=True)

    async def ask() -> bytes:
        config = uvicorn.Config(_app, http=protocol_for(gate), ws="none", lifespan="off", log_config=None, access_log=False)
        server = Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        serving = asyncio.ensure_future(server.serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(
            b"GET /any HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2 + b"POST /any HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
        )
        answered = b""
        while answered.count(b"\r\n\r\nok") < 3:
            answered += await asyncio.wait_for(reader.read(4096), 10)
        server.should_exit = True
        assert await reader.read() == b""
        writer.close()
        await serving
        return answered

    # Signals stay the test runner's.
    assert asyncio.run(ask()).count(b"HTTP/1.1 200 OK") == 3


def _assigned(cls: type) -> list[str]:
    """Names of `self.<name>` that the class's own source assigns."""
    tree = ast.parse(Path(inspect.getfile(cls)).read_text())
    (body,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__]
    return [
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    ]


def _keywords_given(module: Any, function: str) -> set[str]:
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    return {
        keyword.arg
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == function
        for keyword in call.keywords
        if keyword.arg
    }
