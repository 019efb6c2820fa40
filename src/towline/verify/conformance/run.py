"""Ask a server every clause and say how each ended."""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterator
from importlib import resources

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from towline.core.errors import UsageError
from towline.verify.conformance import tfserving_grpc, tfserving_rest, v2_binary, v2_extensions, v2_grpc, v2_rest, web
from towline.verify.conformance.checks import Check, Failed, Level, Result, Skipped, Status, shown
from towline.verify.conformance.target import ECHO, HALVES, Target

SUITES = (
    v2_rest.SUITE,
    v2_binary.SUITE,
    v2_extensions.SUITE,
    v2_grpc.SUITE,
    tfserving_rest.SUITE,
    tfserving_grpc.SUITE,
    web.GRPC_WEB,
    web.GRAPHQL,
)
PROTOCOLS = tuple(suite.protocol for suite in SUITES)
_NEED_GRPC = ("v2-grpc", "tfserving-grpc")
_ABSENT = {"tfserving-rest": tfserving_rest.absent, "tfserving-grpc": tfserving_grpc.absent}
# What a check may stumble over when an answer has another form than the clause says.
_OTHER_FORM = (KeyError, IndexError, TypeError, ValueError, AttributeError, struct.error, DecodeError)


def model_bytes(name: str) -> bytes:
    """The ONNX file of one of the suite's own models, `halves` or `echo`, to be loaded into the server under test."""
    if name not in (HALVES, ECHO):
        raise UsageError(f"The suite has no model '{name[:64]}'.", hint=f"There are: {HALVES}, {ECHO}.")
    return (resources.files(__package__) / f"{name}.onnx").read_bytes()


def chosen(only: Collection[str]) -> tuple[Check, ...]:
    """The checks of these protocols, of all when none is named. Raises UsageError for a protocol there is not."""
    unknown = [name for name in only if name not in PROTOCOLS]
    if unknown:
        raise UsageError(f"There is no protocol '{unknown[0][:64]}'.", hint=f"There are: {', '.join(PROTOCOLS)}.", field="only")
    return tuple(check for suite in SUITES if not only or suite.protocol in only for check in suite.checks)


def run(target: Target, checks: Collection[Check], show: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Each check once, in order. Raises Unreachable when the server stops answering at all."""
    return list(_results(target, checks, show))


def _results(target: Target, checks: Collection[Check], show: Callable[[Result], None]) -> Iterator[Result]:
    why_not = {protocol: _why_not(target, protocol) for protocol in {check.protocol for check in checks}}
    for check in checks:
        reason = why_not[check.protocol]
        result = Result(check, Status.SKIP, reason=reason) if reason else _result(target, check)
        show(result)
        yield result


def _why_not(target: Target, protocol: str) -> str:
    """Why none of a protocol's checks can be asked; empty when they can."""
    if protocol in _NEED_GRPC and not target.grpc_address:
        return "no gRPC address was given"
    return _ABSENT[protocol](target) if protocol in _ABSENT else ""


def _result(target: Target, check: Check) -> Result:
    target.sent = ""
    try:
        check.ask(target)
    except Skipped as reason:
        return Result(check, Status.SKIP, reason=str(reason))
    except Failed as failure:
        return Result(check, Status.FAIL, shown(target.sent), failure.expected, failure.got)
    except _OTHER_FORM as error:
        return Result(check, Status.FAIL, shown(target.sent), "an answer in the clause's form", shown(f"{type(error).__name__}: {error}"))
    return Result(check, Status.PASS)


def fails(results: Collection[Result]) -> bool:
    """Whether a clause that says MUST was not kept."""
    return any(result.status is Status.FAIL and result.check.level is Level.MUST for result in results)
