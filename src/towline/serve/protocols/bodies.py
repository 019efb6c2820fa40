"""`/predict` for a handler that declares no signature: its body goes in as it is, and what it gives is the answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from towline.core.errors import TowlineError
from towline.core.handler import BODY
from towline.core.inference import Request, Response
from towline.core.manifest import Handler
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, Reply, Served
from towline.serve.protocols import events, incoming
from towline.serve.protocols.errors import own_error

Refusal = Callable[[TowlineError], HttpResponse]


def passes_body(served: Served) -> bool:
    return served.manifest.handler is not None and served.manifest.handler.passes_body


def own_wording(request: HttpRequest, part: Callable[[Response], bytes]) -> events.Wording:
    """Events whose errors are those of `/predict`."""
    return events.Wording(
        part, lambda error: own_error(error, request), lambda error: events.data(own_error(error, request).body, b"error")
    )


def predict(
    plane: DataPlane, served: Served, request: HttpRequest, limits: Limits, reply: Reply, *, protocol: str
) -> Callable[[], None] | None:
    """Answer one request; `served` passes its body."""
    handler = served.manifest.handler
    assert handler is not None
    wording = own_wording(request, lambda part: events.as_text(body_of(part), handler.media_type))
    return run(plane, served, request, limits, wording, reply, protocol=protocol, in_parts=events.wants_events(served, request))


def run(
    plane: DataPlane,
    served: Served,
    request: HttpRequest,
    limits: Limits,
    wording: events.Wording,
    reply: Reply,
    *,
    protocol: str,
    in_parts: bool,
) -> Callable[[], None] | None:
    handler = served.manifest.handler
    assert handler is not None
    try:
        body, deadline = incoming.read(request, limits)
    except TowlineError as error:
        reply(wording.refusal(error))
        return None
    array = np.empty(1, dtype=object)
    array[0] = body
    asked = Request({BODY: array}, 1, deadline)
    if in_parts:
        return events.answer(plane, served, asked, wording, reply, protocol=protocol)
    return plane.infer(served, asked, _whole(handler, wording.refusal, reply), protocol=protocol)


def _whole(handler: Handler, refusal: Refusal, reply: Reply) -> Callable[[Response | TowlineError], None]:
    def done(result: Response | TowlineError) -> None:
        if isinstance(result, TowlineError):
            reply(refusal(result))
        else:
            reply(HttpResponse(200, body_of(result), handler.media_type.encode()))

    return done


def body_of(response: Response) -> bytes:
    """The one body of an answer or a part."""
    (body,) = response.outputs[BODY].reshape(-1)
    return bytes(body)
