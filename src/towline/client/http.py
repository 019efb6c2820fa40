"""A client of a running server: predict, models, metadata, readiness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from towline.client.connection import Connections
from towline.client.tensors import as_tensor, named_inputs
from towline.client.wire import HEADER_LENGTH, Metadata, decode_answer, decode_metadata, decode_names, encode_request, error_of
from towline.core import dtypes
from towline.core.errors import DeadlineExceeded, InvalidRequest, TowlineError, Unreachable
from towline.core.refs import check_model_name


class Client:
    """A client of one server, speaking v2 with binary tensors. Threads may share it: each has its own connection, kept alive.

    `timeout_s` bounds each call, retries included. A refused connection and an answer 503 are tried again, at most three
    times, after the pause the server asks for. Errors are the server's own: InvalidRequest, NotFound, Overloaded, Unavailable,
    DeadlineExceeded, EngineError; Unreachable when nobody answers. A `key` is sent in the clear to this machine only.
    """

    def __init__(self, url: str = "http://127.0.0.1:8000", *, timeout_s: float = 60.0, key: str | None = None) -> None:
        self._connections = Connections(url, timeout_s=timeout_s, key=key)
        # Asked once per model: names and types of inputs rarely change, and the server checks them anyway.
        self._known: dict[tuple[str, int | None], Metadata] = {}

    @property
    def url(self) -> str:
        return self._connections.url

    def predict(self, model: str, inputs: Any, *, version: int | None = None) -> Any:
        """Run `model` on one array, or on a dict of arrays by name; lists become arrays of the model's types.

        Returns an array when one array was given and the model has one output, else a dict of arrays by name. Strings are
        object arrays of bytes. Arrays have the shape the model takes, the batch axis included.
        """
        known = self._known.get((model, version))
        metadata = known or self.metadata(model, version=version)
        try:
            outputs = self._infer(model, version, inputs, metadata)
        except InvalidRequest:
            # A swapped version may take other inputs: look again before blaming the caller.
            fresh = self.metadata(model, version=version) if known else metadata
            if fresh.inputs == metadata.inputs:
                raise
            outputs = self._infer(model, version, inputs, fresh)
        if len(outputs) == 1 and not isinstance(inputs, Mapping):
            return next(iter(outputs.values()))
        return outputs

    def metadata(self, model: str, *, version: int | None = None) -> Metadata:
        """What the server says of a model now: its versions, inputs and outputs."""
        metadata = decode_metadata(self._ask(_model_path(model, version)))
        self._known[model, version] = metadata
        return metadata

    def models(self) -> tuple[str, ...]:
        """The names of the models being served."""
        return decode_names(self._ask("/v2/models"))

    def is_ready(self) -> bool:
        """Whether a server answers and is ready; one that is not there is not ready."""
        try:
            return self._connections.exchange("GET", "/v2/health/ready", b"", {}, tries=1).status == 200
        except (Unreachable, DeadlineExceeded):
            return False

    def close(self) -> None:
        """Close the connections of all threads."""
        self._connections.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _infer(self, model: str, version: int | None, inputs: Any, metadata: Metadata) -> dict[str, np.ndarray]:
        named = named_inputs(inputs, [tensor.name for tensor in metadata.inputs])
        tensors = {tensor.name: as_tensor(tensor.name, named[tensor.name], dtypes.BY_NAME[tensor.dtype]) for tensor in metadata.inputs}
        body, head_bytes = encode_request(tensors)
        headers = {"content-type": "application/octet-stream", HEADER_LENGTH: str(head_bytes)}
        answer = self._connections.exchange("POST", f"{_model_path(model, version)}/infer", body, headers)
        if answer.status != 200:
            raise error_of(answer.status, answer.body, answer.retry_after)
        return decode_answer(answer.body, answer.header_length)

    def _ask(self, path: str) -> bytes:
        answer = self._connections.exchange("GET", path, b"", {})
        if answer.status != 200:
            raise error_of(answer.status, answer.body, answer.retry_after)
        return answer.body


def _model_path(model: str, version: int | None) -> str:
    check_model_name(model)
    return f"/v2/models/{model}" + (f"/versions/{int(version)}" if version is not None else "")


__all__ = ["Client", "Metadata", "TowlineError"]
