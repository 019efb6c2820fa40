"""Methods of a running server, called with our own messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

from towline.serve.protocols.grpc.messages import MESSAGES

Ask = Callable[..., Any]


def method(channel: grpc.Channel, name: str, answer: str) -> Ask:
    """A unary method of a channel, by its full name; takes messages."""
    return channel.unary_unary(
        f"/{name}", request_serializer=lambda message: message.SerializeToString(), response_deserializer=MESSAGES[answer].FromString
    )
