"""How a version is run on one machine: what was found best there (`towline tune`), or what its owner says. Pure but for `this_machine`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from towline.core.cpu import cpu_kind, usable_cores

# The event that tells what was found; its data has `machine` (as this_machine gives it) and `use` (as Runtime's fields).
TUNED = "version.tuned"
# What is read from an event is bounded as the settings are.
MOST = {"threads": 256, "runs": 256, "instances": 64, "max_batch": 65_536}


@dataclass(frozen=True)
class Runtime:
    """Threads that one run may use; runs at a time in each worker; workers at a time; rows that a run may have. 0: the server decides."""

    threads: int = 0
    runs: int = 0
    instances: int = 0
    max_batch: int = 0

    def __bool__(self) -> bool:
        return self != Runtime()

    def over(self, other: Runtime) -> Runtime:
        """What is said here, and for the rest what `other` says."""
        return Runtime(**{one.name: getattr(self, one.name) or getattr(other, one.name) for one in fields(Runtime)})

    @classmethod
    def from_data(cls, told: Any) -> Runtime:
        """As an event or a message has it. What is no number within bounds counts as not said: nobody is to lose a server over it."""
        data = told if isinstance(told, Mapping) else {}
        return cls(**{name: value for name, most in MOST.items() if type(value := data.get(name)) is int and 0 < value <= most})


UNTUNED = Runtime()


def this_machine() -> dict[str, str | int]:
    """What a finding is bound to: the kind of CPU, and how many cores this process may use."""
    return {"cpu": cpu_kind(), "cores": usable_cores()}
