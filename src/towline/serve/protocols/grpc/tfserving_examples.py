"""`Classify`, `Regress` and `MultiInference` of `tensorflow.serving.PredictionService`: tf.Examples in, classes and values out."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from towline.core.errors import InvalidRequest
from towline.core.inference import Response
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, Served
from towline.serve.protocols.errors import printable
from towline.serve.protocols.grpc.calls import Work, inferring, read, refused, run
from towline.serve.protocols.grpc.contract import Call, Cancel, Method, Refusal, Reply
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING as STATUSES
from towline.serve.protocols.grpc.tfserving_codec import asked, signature_called, spec_of
from towline.serve.protocols.grpc.wire import delimited
from towline.serve.protocols.tfserving import find
from towline.serve.protocols.tfserving_examples import (
    BYTES,
    CLASSIFY_METHOD,
    FLOAT,
    INT64,
    REGRESS_METHOD,
    Example,
    Feature,
    Task,
    classes_of,
    codec_for,
    values_of,
)

# Each is a run of the model of its own.
MAX_TASKS = 16
_KINDS = {"int64_list": INT64, "float_list": FLOAT, "bytes_list": BYTES}
_Classified = MESSAGES["tensorflow.serving.ClassificationResponse"]
_Regressed = MESSAGES["tensorflow.serving.RegressionResponse"]
_Result = MESSAGES["tensorflow.serving.InferenceResult"]


def methods(plane: DataPlane, limits: Limits, protocol: str) -> dict[str, Method]:
    api = _Api(plane, limits)

    def one(request: str, prepare: Callable[[Any, Call], Work]) -> Method:
        kind = MESSAGES[f"tensorflow.serving.{request}"]
        return inferring(STATUSES, plane, protocol, lambda raw, call: prepare(read(kind, raw), call))

    return {
        "Classify": one("ClassificationRequest", api.classify),
        "Regress": one("RegressionRequest", api.regress),
        "MultiInference": _all(plane, protocol, api.tasks),
    }


class _Api:
    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits

    def classify(self, request: Any, call: Call) -> Work:
        return self._work(request, call, CLASSIFY_METHOD, _Classified)

    def regress(self, request: Any, call: Call) -> Work:
        return self._work(request, call, REGRESS_METHOD, _Regressed)

    def _work(self, request: Any, call: Call, method: str, answer: Any) -> Work:
        served = find(self._plane, *asked(request))
        name = request.model_spec.signature_name
        return self._prepared(served, name, method, request.input, call, lambda spec, result: answer(model_spec=spec, result=result))

    def tasks(self, request: Any, call: Call) -> list[Work]:
        """One work a task, all on one version. Its results are the fields of the answer, already written."""
        if not 1 <= len(request.tasks) <= MAX_TASKS:
            raise InvalidRequest(f"'tasks' takes 1 to {MAX_TASKS} tasks, got {len(request.tasks)}.", code="WRONG_SIZE", field="tasks")
        served = [find(self._plane, *asked(task)) for task in request.tasks]
        seen: set[tuple[str, str]] = set()
        works = []
        for index, task in enumerate(request.tasks):
            name, method = task.model_spec.signature_name, task.method_name
            field = f"tasks[{index}]"
            if served[index] is not served[0]:
                raise InvalidRequest("All tasks must be of one model and version.", code="SEVERAL_MODELS", field=f"{field}.model_spec")
            if method not in (CLASSIFY_METHOD, REGRESS_METHOD):
                raise InvalidRequest(f"Unsupported signature method_name: {printable(method)}", field=f"{field}.method_name")
            if (name, method) in seen:
                raise InvalidRequest(f"Duplicate evaluation of signature: {printable(name)}", code="DUPLICATE_TASK", field=field)
            seen.add((name, method))
            key = "classification_result" if method == CLASSIFY_METHOD else "regression_result"
            write = lambda spec, result, key=key: _Result(model_spec=spec, **{key: result})  # noqa: E731
            works.append(self._prepared(served[0], name, method, request.input, call, write))
        return works

    def _prepared(self, served: Served, name: str, method: str, given: Any, call: Call, write: Callable[[Any, Any], Any]) -> Work:
        codec = codec_for(served, self._limits, signature_called(served, name))
        task = codec.task(method)
        examples, context = _read(given)
        codec.check_amount(len(examples))
        rows = len(examples)
        request = codec.decode([_example(example) for example in examples], _example(context), task, call.deadline)

        def encode(response: Response) -> bytes:
            message = write(spec_of(response.name, response.number, name), _result(response, task, served, rows))
            encoded: bytes = message.SerializeToString()
            return encoded

        return Work(served, request, encode)


def _read(given: Any) -> tuple[Any, Any]:
    """The examples and what they share."""
    kind = given.WhichOneof("kind")
    if kind == "example_list_with_context":
        return given.example_list_with_context.examples, given.example_list_with_context.context
    return given.example_list.examples, None


def _example(message: Any) -> Example:
    found = {}
    for name, feature in message.features.feature.items() if message is not None else ():
        kind = feature.WhichOneof("kind")
        found[name] = Feature(_KINDS[kind], getattr(feature, kind).value) if kind else Feature("", ())
    return found


def _result(response: Response, task: Task, served: Served, rows: int) -> dict[str, Any]:
    if task.method == REGRESS_METHOD:
        return {"regressions": [{"value": value} for value in values_of(response, task, rows).tolist()]}
    labels, scores = classes_of(response, task, served.labels, rows)
    each = zip(labels, scores.tolist(), strict=True)
    return {
        "classifications": [
            {"classes": [{"label": label, "score": score} for label, score in zip(words, row, strict=True)]} for words, row in each
        ]
    }


def _all(plane: DataPlane, protocol: str, prepare: Callable[[Any, Call], list[Work]]) -> Method:
    """A method whose answer is a list of results, each of a run of its own: all of them, or the first refusal."""
    kind = MESSAGES["tensorflow.serving.MultiInferenceRequest"]

    def method(raw: bytes, call: Call, reply: Reply) -> Cancel | None:
        try:
            works = prepare(read(kind, raw), call)
        except Exception as error:
            reply(refused(error, STATUSES))
            return None
        results: list[bytes | None] = [None] * len(works)
        cancels: list[Cancel] = []
        is_over = False

        def one_done(index: int, answer: bytes | Refusal) -> None:
            nonlocal is_over
            if is_over:
                return
            if isinstance(answer, Refusal):
                is_over = True
                give_up()
                reply(answer)
                return
            results[index] = delimited(1, answer)
            written = [result for result in results if result is not None]
            if len(written) == len(works):
                is_over = True
                reply(b"".join(written))

        def give_up() -> None:
            for cancel in cancels:
                cancel()

        for index, work in enumerate(works):
            if not is_over:
                cancels.append(run(plane, work, protocol, STATUSES, functools.partial(one_done, index)))
        return give_up

    return method
