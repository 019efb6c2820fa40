"""The desired state of one served name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Policy:
    """Which versions are served, as TF Serving says it: the latest `count`, all, the numbers named, or what an alias points at."""

    kind: Literal["latest", "all", "specific", "alias"] = "latest"
    count: int = 1
    numbers: tuple[int, ...] = ()
    alias: str = ""

    def __str__(self) -> str:
        match self.kind:
            case "latest":
                return "latest" if self.count == 1 else f"latest {self.count}"
            case "specific":
                return ", ".join(str(number) for number in self.numbers)
            case "alias":
                return f"@{self.alias}"
            case _:
                return "all"


@dataclass(frozen=True)
class Limits:
    """Bounds on the work one deployment may hold; 0 means the server's own setting, and so does None."""

    max_waiting_requests: int = 0
    max_waiting_bytes: int = 0
    timeout_s: float = 0.0
    max_batch: int = 0
    latency_slo_ms: float = 0.0
    instances: int = 0
    padding: bool | None = None


@dataclass(frozen=True)
class Deployment:
    """What shall be served under `name`. `labels` pin a label to a version number, as TF Serving's version labels do."""

    name: str
    policy: Policy = Policy()
    labels: dict[str, int] = field(default_factory=dict)
    limits: Limits = Limits()
    revision: int = 0


def chosen_numbers(policy: Policy, existing: tuple[int, ...], aliases: dict[str, int]) -> tuple[int, ...]:
    """The version numbers a policy asks for, ascending; numbers that do not exist are left out."""
    if policy.kind == "alias":
        wanted: tuple[int, ...] = (aliases[policy.alias],) if policy.alias in aliases else ()
    elif policy.kind == "specific":
        wanted = policy.numbers
    elif policy.kind == "all":
        wanted = existing
    else:
        wanted = tuple(sorted(existing)[-policy.count :])
    return tuple(sorted(set(wanted) & set(existing)))
