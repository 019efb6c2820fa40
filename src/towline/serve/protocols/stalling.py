"""Whether a client sits longer than it may in what it is doing: sending a head, sending a body, taking its answers, or nothing."""

from __future__ import annotations

from towline.core.config import Settings
from towline.serve.protocols.exchange import Exchange
from towline.serve.protocols.pace import Pace
from towline.serve.protocols.reader import CLOSING, HEAD, REST, RequestReader

# After a refusal the client may still be sending: that is read and thrown away, so that it can read the answer.
LINGER_S = 2.0
LINGER_AT_MOST_S = 10.0
BODY_GRACE_S = 5.0


class Patience:
    """With one client. It is asked once a second, by whichever of its questions fits."""

    __slots__ = ("_pace", "_paced", "closing_since_s")

    def __init__(self, now_s: float) -> None:
        self.closing_since_s = now_s
        # What is watched for its speed: answers the client does not take, else the body it sends, which is that exchange's.
        self._pace: Pace | None = None
        self._paced: Exchange | None = None

    def begin_anew(self) -> None:
        """It was another that had to move."""
        self._pace = None

    def ends_with_writer(self, unsent_bytes: int, now_s: float, limits: Settings) -> bool:
        """The client does not take its answers, of which so much is left."""
        return self._is_too_slow(None, -unsent_bytes, now_s, limits, limits.write_timeout_s)

    def ends_with_reader(self, reader: RequestReader, now_s: float, limits: Settings, *, is_answered: bool, is_read: bool) -> bool:
        """The client takes its answers; `is_read` says that we take what it sends."""
        waited_s = now_s - reader.since_s
        if reader.phase is CLOSING:
            return is_answered and (waited_s > LINGER_S or now_s - self.closing_since_s > LINGER_AT_MOST_S)
        if reader.phase is REST:
            return is_answered and waited_s > limits.idle_timeout_s
        if not is_read:
            # It is we who do not read.
            reader.since_s, self._pace = now_s, None
            return False
        if reader.phase is HEAD:
            return waited_s > limits.header_timeout_s
        exchange = reader.exchange
        return exchange is not None and self._is_too_slow(exchange, exchange.body_bytes, now_s, limits, BODY_GRACE_S)

    def _is_too_slow(self, exchange: Exchange | None, done_bytes: int, now_s: float, limits: Settings, grace_s: float) -> bool:
        """Of the body of an exchange, or (None) of the answers that the client does not take."""
        if self._pace is None or self._paced is not exchange:
            self._pace, self._paced = Pace(now_s, done_bytes), exchange
            return False
        return self._pace.is_too_slow(done_bytes, now_s, min_bytes_per_s=limits.min_body_bytes_per_s, grace_s=grace_s)
