"""The routes by which models are asked over HTTP, wherever the data plane lives."""

from __future__ import annotations

from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Route
from towline.serve.openapi import routes as openapi
from towline.serve.protocols import generate, openinference, simple, tfserving


def model_routes(plane: DataPlane, limits: Limits) -> list[Route]:
    """To be tried in order."""
    protocols = (tfserving, generate, openinference, simple, openapi)
    return [route for protocol in protocols for route in protocol.routes(plane, limits)]
