"""Errors that name the thing, what was wrong, and what would be right. Pure."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What went wrong, in no protocol's words; each protocol and the command line map it to their own codes."""

    INVALID = "invalid"
    TOO_LARGE = "too_large"
    UNSUPPORTED_MEDIA = "unsupported_media"
    WRONG_METHOD = "wrong_method"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    UNAUTHENTICATED = "unauthenticated"
    DENIED = "denied"
    EXHAUSTED = "exhausted"
    UNAVAILABLE = "unavailable"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    OUT_OF_MEMORY = "out_of_memory"
    UNSUPPORTED = "unsupported"
    INTERNAL = "internal"
    USAGE = "usage"
    GATE = "gate"
    MISSING_EXTRA = "missing_extra"
    UNREACHABLE = "unreachable"


class TowlineError(Exception):
    """Base of everything we raise on purpose.

    `message` may be shown to anyone: it holds no path of the server, traceback or secret.
    `code` is stable, upper case; `field` names the part of the input that is wrong; `hint` says what to do next.
    """

    kind = Kind.INTERNAL
    code = "INTERNAL"
    # The version that gave it has it among its own counts.
    is_counted = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        field: str = "",
        hint: str = "",
        kind: Kind | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint
        self.retry_after_s = retry_after_s
        if code:
            self.code = code
        if kind is not None:
            self.kind = kind


class InvalidRequest(TowlineError):
    """The caller's input is wrong; sending it again will not help."""

    kind = Kind.INVALID
    code = "INVALID_ARGUMENT"


class NotFound(TowlineError):
    kind = Kind.NOT_FOUND
    code = "NOT_FOUND"


class Unauthenticated(TowlineError):
    """No key, or one that is not known: who asks must say who they are."""

    kind = Kind.UNAUTHENTICATED
    code = "UNAUTHENTICATED"


class Conflict(TowlineError):
    """The store or a running server is in a state that forbids this; reload and decide again."""

    kind = Kind.CONFLICT
    code = "CONFLICT"


class Overloaded(TowlineError):
    """Refused now, welcome later: the queue is full."""

    kind = Kind.EXHAUSTED
    code = "QUEUE_FULL"


class Unavailable(TowlineError):
    """The service cannot answer this now, through no fault of the request."""

    kind = Kind.UNAVAILABLE
    code = "UNAVAILABLE"


class DeadlineExceeded(TowlineError):
    kind = Kind.DEADLINE
    code = "DEADLINE_EXCEEDED"


class EngineError(TowlineError):
    """The engine refused or failed while running a request that passed the signature check."""

    code = "ENGINE_ERROR"


class VersionError(TowlineError):
    """A version's files are not what its digest says, or cannot be loaded."""

    code = "VERSION_UNUSABLE"


class ImportRefused(TowlineError):
    """A file offered for import is not a model we may load."""

    kind = Kind.INVALID
    code = "IMPORT_REFUSED"


class UsageError(TowlineError):
    """The command line or a setting is wrong."""

    kind = Kind.USAGE
    code = "USAGE"


class MissingExtra(TowlineError):
    kind = Kind.MISSING_EXTRA
    code = "MISSING_EXTRA"


class Unreachable(TowlineError):
    """A server we were told to talk to does not answer."""

    kind = Kind.UNREACHABLE
    code = "UNREACHABLE"


class WorkerDied(TowlineError):
    """The process that ran a model ended. `signal_number` is 0 when it exited by itself or nobody knows why."""

    code = "ENGINE_CRASHED"

    def __init__(self, message: str, *, signal_number: int = 0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number
