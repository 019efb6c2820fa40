"""Who may pass: a key, asked for before anything else of a request is read. Pure, but for the ring of keys it asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from towline.core.errors import InvalidRequest, Unauthenticated

# Answered without a key, so that whoever starts and watches a server needs none. They tell that it lives, and nothing of what it serves.
_OPEN_CALLS = ("/grpc.health.v1.Health/", "/inference.GRPCInferenceService/ServerLive", "/inference.GRPCInferenceService/ServerReady")
_HINT = "Send the header 'Authorization: Bearer KEY' or 'X-API-Key: KEY'. The owner of the server makes keys: towline key NAME"


class Ring(Protocol):
    """The keys there are (secure/keys.py)."""

    @property
    def is_there(self) -> bool:
        """Whether keys are asked for at all."""
        ...

    def holder_of(self, key: str) -> str | None: ...


class RefreshedRing(Ring, Protocol):
    def refresh(self) -> bool:
        """Look at the file again; whether the keys are others now. Raises TowlineError when it cannot be used."""
        ...


class Doorman:
    """Asks for a key over HTTP and gRPC alike. Without a ring everybody passes."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring

    def check_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Raises Unauthenticated, or InvalidRequest for two keys. Names are in lower case."""
        if self._ring.is_there:
            bearers = [value.decode("latin-1") for name, value in headers if name == b"authorization"]
            plain = [value.decode("latin-1") for name, value in headers if name == b"x-api-key"]
            self._check(bearers, plain)

    def check_call(self, path: str, metadata: Mapping[str, str | bytes]) -> None:
        """Of a gRPC call: `path` is `/package.Service/Method`. A name that came twice has its values joined by a comma."""
        if self._ring.is_there and not path.startswith(_OPEN_CALLS):
            self._check(_values(metadata, "authorization"), _values(metadata, "x-api-key"))

    def _check(self, bearers: Sequence[str], plain: Sequence[str]) -> None:
        if len(bearers) + len(plain) > 1:
            raise InvalidRequest(
                "A request shows one key, in one header.", code="TWO_KEYS", field="authorization" if bearers else "x-api-key"
            )
        if not bearers and not plain:
            raise Unauthenticated("This server asks for a key, and the request shows none.", field="authorization", hint=_HINT)
        key = plain[0].strip() if plain else _bearer(bearers[0])
        if self._ring.holder_of(key) is None:
            raise Unauthenticated("This key is not known here: it was mistyped or revoked.", field="authorization", hint=_HINT)


def _bearer(value: str) -> str:
    scheme, _, key = value.strip().partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated("The authorization header must be 'Bearer KEY'.", field="authorization", hint=_HINT)
    return key.strip()


def _values(metadata: Mapping[str, str | bytes], name: str) -> list[str]:
    value = metadata.get(name)
    return value.split(",") if isinstance(value, str) else []
