"""Run a version once: from the store in this process, or on a running server."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from towline.core.errors import InvalidRequest

_V2_PATH = re.compile(r"(?P<base>https?://[^?#]*?)/v2/models/(?P<model>[^/?#]+)(/versions/(?P<version>[1-9][0-9]{0,17}))?(/infer)?/?")


@dataclass(frozen=True)
class Target:
    """A model on a running server. `model` is empty when the URL names none: then it must serve only one."""

    base: str
    model: str
    version: int | None


@dataclass(frozen=True)
class Prediction:
    """Outputs by name; `labels` of the version's classes where they are known."""

    outputs: dict[str, np.ndarray]
    labels: tuple[str, ...] = ()


def predict(target: str, inputs: Any, *, home: str | Path | None = None, timeout_s: float = 60.0, key: str | None = None) -> Prediction:
    """Run `target` on an array or a dict of arrays by name.

    `target` is a ref (loaded into this process), or a URL: a server's address, or http://HOST:PORT/v2/models/NAME[/versions/N].
    """
    if is_url(target):
        return _predict_remote(parse_target(target), inputs, timeout_s, key)
    from towline.app.predicting.load import load

    model = load(target, home=home)
    outputs = model.predict(inputs)
    name = model.signature.outputs[0].name
    return Prediction(outputs if isinstance(outputs, dict) else {name: outputs}, model.labels)


def is_url(target: str) -> bool:
    return target.startswith(("http://", "https://"))


def parse_target(url: str) -> Target:
    """The server, model and version a URL names."""
    found = _V2_PATH.fullmatch(url)
    if not found:
        return Target(url, "", None)
    version = found["version"]
    return Target(found["base"], found["model"], int(version) if version else None)


def _predict_remote(target: Target, inputs: Any, timeout_s: float, key: str | None) -> Prediction:
    from towline.client.http import Client

    with Client(target.base, timeout_s=timeout_s, key=key) as client:
        model = target.model or _only(client.models(), target.base)
        outputs = client.predict(model, inputs, version=target.version)
        if isinstance(outputs, dict):
            return Prediction(outputs)
        return Prediction({client.metadata(model, version=target.version).outputs[0].name: outputs})


def _only(names: tuple[str, ...], base: str) -> str:
    if len(names) == 1:
        return names[0]
    raise InvalidRequest(
        f"{base} serves {len(names)} models: {', '.join(names[:10]) or 'none'}.",
        field="model",
        hint=f"Name one: {base.rstrip('/')}/v2/models/{names[0] if names else 'NAME'}",
    )
