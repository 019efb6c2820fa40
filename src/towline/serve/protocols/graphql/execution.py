"""Run one GraphQL document against the data plane. Imported when `/graphql` is first asked: the library is an extra."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from graphql import ExecutionResult, GraphQLError, GraphQLSchema, build_schema, execute, parse, validate
from graphql.language import DocumentNode, OperationDefinitionNode, OperationType

from towline.core import dtypes
from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.core.manifest import TensorSpec
from towline.serve.codecs.check import Limits
from towline.serve.contract import Served
from towline.serve.protocols.errors import message_of
from towline.serve.protocols.graphql import limits as document_limits
from towline.serve.protocols.graphql import values
from towline.serve.protocols.graphql.contract import Catalogue, FiguresOf
from towline.serve.protocols.graphql.schema import SDL
from towline.serve.protocols.openinference_request import codec_for

PROTOCOL = "graphql"
_MAX_ERRORS = 5


@dataclass(frozen=True)
class Asked:
    """One request over HTTP: its document, which operation of it, and the variables. `received_s` is on the monotonic clock."""

    query: str
    operation: str | None
    variables: Mapping[str, Any] | None
    received_s: float
    deadline: float | None


@dataclass(frozen=True)
class Answered:
    """The response body. `began` is False when nothing ran: the document or its variables were refused as a whole."""

    body: dict[str, Any]
    began: bool


class WrongVerb(Exception):
    """A mutation came with GET."""


class GraphQL:
    """Made once. `figures` tells what was counted for a version."""

    def __init__(self, plane: Catalogue, limits: Limits, figures: FiguresOf) -> None:
        self._schema: GraphQLSchema = build_schema(SDL)
        values.teach(self._schema)
        self._root = _Root(plane, limits, figures)

    async def answer(self, asked: Asked, *, may_change: bool) -> Answered:
        """Raises WrongVerb for a mutation where `may_change` is False."""
        try:
            document = parse(asked.query, no_location=False, max_tokens=document_limits.MAX_TOKENS)
            document_limits.check(document)
        except RecursionError:
            return _refused(document_limits.TooMuch("TOO_DEEP", "The document is nested too deeply."))
        except GraphQLError as error:
            return _refused(error)
        problems = validate(self._schema, document, max_errors=_MAX_ERRORS)
        if problems:
            return _refused(*problems)
        operation = _operation(document, asked.operation)
        if isinstance(operation, GraphQLError):
            return _refused(operation)
        if operation is OperationType.SUBSCRIPTION:
            return _refused(GraphQLError("Subscriptions are not served.", extensions={"code": "UNSUPPORTED"}))
        if operation is OperationType.MUTATION and not may_change:
            raise WrongVerb
        found = execute(self._schema, document, self._root, asked, dict(asked.variables or {}), asked.operation)
        result: ExecutionResult = await found if isinstance(found, Awaitable) else found
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            # Its variables do not fit.
            return _refused(*result.errors)
        body: dict[str, Any] = {"data": result.data}
        if result.errors:
            body["errors"] = [_written(error) for error in result.errors[:_MAX_ERRORS]]
        return Answered(body, True)


def _operation(document: DocumentNode, name: str | None) -> OperationType | GraphQLError:
    found = [one for one in document.definitions if isinstance(one, OperationDefinitionNode)]
    if name is not None:
        found = [one for one in found if one.name is not None and one.name.value == name]
        if not found:
            return GraphQLError(f"There is no operation named {name[:64]!r} in the document.", extensions={"code": "NO_SUCH_OPERATION"})
    if len(found) != 1:
        return GraphQLError("The document has several operations: operationName says which.", extensions={"code": "WHICH_OPERATION"})
    return found[0].operation


def _refused(*errors: GraphQLError) -> Answered:
    return Answered({"errors": [_written(error) for error in errors[:_MAX_ERRORS]]}, False)


def _written(error: GraphQLError) -> dict[str, Any]:
    """The error as the specification has it, with a code of ours. Of what nobody foresaw no word is told."""
    original = error.original_error
    if isinstance(original, TowlineError):
        message, code, field = message_of(original), original.code, original.field
    elif original is not None and not isinstance(original, GraphQLError):
        message, code, field = "The server failed while answering this; its log says why.", "INTERNAL", ""
    else:
        message, code, field = error.message[:500], str((error.extensions or {}).get("code", "BAD_DOCUMENT")), ""
    written: dict[str, Any] = {"message": message, "extensions": {"code": code, **({"field": field} if field else {})}}
    if error.locations:
        written["locations"] = [location.formatted for location in error.locations[:_MAX_ERRORS]]
    if error.path is not None:
        written["path"] = error.path
    return written


class _Root:
    """The fields of Query and Mutation, by their names in the schema: graphql-core calls them with the info and the arguments."""

    def __init__(self, plane: Catalogue, limits: Limits, figures: FiguresOf) -> None:
        self._plane, self._limits, self._figures = plane, limits, figures

    def health(self, info: Any) -> dict[str, Any]:
        return {"live": True, "ready": self._plane.is_ready(), "version": metadata.version("towline")}

    def models(self, info: Any) -> list[dict[str, Any]]:
        return [self._model(name) for name in self._plane.names()]

    def model(self, info: Any, name: str) -> dict[str, Any] | None:
        return self._model(name) if name in self._plane.names() else None

    def deployments(self, info: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "versions": [version.number for version in one.versions],
                "default": one.default,
                "labels": [{"name": label, "version": number} for label, number in sorted(one.labels.items())],
            }
            for one in self._plane.deployments()
        ]

    def _model(self, name: str) -> dict[str, Any]:
        versions = [self._version(name, status.number, status.state, status.error) for status in self._plane.status(name)]
        return {"name": name, "ready": any(one["state"] == "AVAILABLE" for one in versions), "versions": versions}

    def _version(self, name: str, number: int, state: str, error: str) -> dict[str, Any]:
        version: dict[str, Any] = {"number": number, "state": state, "error": error}
        if state != "AVAILABLE":
            return version
        try:
            served = self._plane.find(name, number=number)
        except TowlineError:
            return version
        manifest, signature = served.manifest, served.signature()
        return version | {
            "digest": served.digest,
            "engine": manifest.engine,
            "batchable": manifest.batchable,
            "parameters": manifest.facts.parameters,
            "inputs": list(map(_described, signature.inputs)),
            "outputs": list(map(_described, signature.outputs)),
            "labels": list(served.labels),
            "metrics": lambda _: self._figures(name, number),
        }

    async def predict(
        self,
        info: Any,
        model: str,
        inputs: list[dict[str, Any]],
        version: int | None = None,
        label: str | None = None,
        outputs: list[str] | None = None,
        timeoutMs: int | None = None,
    ) -> dict[str, Any]:
        asked: Asked = info.context
        served = self._plane.find(model, number=version, label=label or "")
        head, binary = values.infer_body(inputs, outputs, served.signature())
        deadline = _earlier(asked.deadline, None if timeoutMs is None else asked.received_s + max(timeoutMs, 0) / 1000)
        decoded = codec_for(served, self._limits).decode(head + binary, b"%d" % len(head), deadline, asked.received_s)
        # No await between finding the version and handing it the request: its slot cannot close in between.
        return await self._run(served, decoded.request)

    async def _run(self, served: Served, request: Any) -> dict[str, Any]:
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        def done(result: Response | TowlineError) -> None:
            if answer.done():
                return
            if isinstance(result, TowlineError):
                answer.set_exception(result)
                return
            tensors = [values.tensor(name, array) for name, array in result.outputs.items()]
            answer.set_result({"model": result.name, "version": result.number, "outputs": tensors})

        cancel = self._plane.infer(served, request, done, protocol=PROTOCOL)
        try:
            return await answer
        except asyncio.CancelledError:
            cancel()
            raise


def _earlier(one: float | None, other: float | None) -> float | None:
    return min((each for each in (one, other) if each is not None), default=None)


def _described(spec: TensorSpec) -> dict[str, Any]:
    shape = None if spec.shape is None else [dim if isinstance(dim, int) else -1 for dim in spec.shape]
    return {"name": spec.name, "datatype": dtypes.BY_NAME[spec.dtype].v2, "shape": shape}
