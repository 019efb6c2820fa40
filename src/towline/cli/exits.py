"""The exit code of every outcome, in one place. Pure."""

from __future__ import annotations

from towline.core.errors import Kind, TowlineError

OK = 0
FAILED = 1
USAGE = 2
GATE = 3
NOT_FOUND = 4
CONFLICT = 5
MISSING_EXTRA = 6
UNREACHABLE = 7
TIMEOUT = 8
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143

# A kind that is not listed is a failure: 1.
BY_KIND = {
    Kind.USAGE: USAGE,
    Kind.GATE: GATE,
    Kind.NOT_FOUND: NOT_FOUND,
    Kind.CONFLICT: CONFLICT,
    Kind.MISSING_EXTRA: MISSING_EXTRA,
    Kind.UNREACHABLE: UNREACHABLE,
    Kind.DEADLINE: TIMEOUT,
    Kind.CANCELLED: INTERRUPTED,
}


def exit_code(error: TowlineError) -> int:
    return BY_KIND.get(error.kind, FAILED)
