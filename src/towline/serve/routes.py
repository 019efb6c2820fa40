"""The routes by which models are asked over HTTP, wherever the data plane lives."""

from __future__ import annotations

from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Route
from towline.serve.openapi import routes as openapi
from towline.serve.protocols import generate, openinference, simple, tfserving, torchserve


def inference_routes(plane: DataPlane, limits: Limits, *, compat: str = "") -> list[Route]:
    """As `model_routes`, of a server that stands in for another (the setting `compat`)."""
    own = model_routes(plane, limits, empty_health=compat == "triton")
    return [*torchserve.routes(plane, limits), *own] if compat == "torchserve" else own


def model_routes(plane: DataPlane, limits: Limits, *, empty_health: bool = False) -> list[Route]:
    """To be tried in order. `empty_health`: health under /v2 is told by the status alone."""
    return [
        *tfserving.routes(plane, limits),
        *generate.routes(plane, limits),
        *openinference.routes(plane, limits, empty_health=empty_health),
        *simple.routes(plane, limits),
        *openapi.routes(plane, limits),
    ]
