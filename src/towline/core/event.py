"""One fact: when, who, what, about which digest; chained to the one before. Pure."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

GENESIS = "0" * 64


@dataclass(frozen=True)
class Event:
    """`kind` is a dotted past tense ("version.imported"); `data` is plain JSON. `number` and the hashes are given by the store."""

    kind: str
    actor: str
    at_s: float
    name: str = ""
    digest: str = ""
    why: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    previous: str = ""
    hash: str = ""


def event_hash(event: Event, previous: str) -> str:
    """SHA-256 over the event's content and the hash of the one before it, so that no past event can be changed unseen."""
    content = [event.number, event.kind, event.actor, event.at_s, event.name, event.digest, event.why, event.data, previous]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
