"""A process of its own that imports a user's handler and prints what it declares: `… describe FILE CLASS SECONDS DESCRIPTOR`.

The description goes to the descriptor, so that what the user's code prints is not taken for it.
"""

from __future__ import annotations

import os
import platform
import resource
import signal
import sys
from pathlib import Path

import msgspec

from towline.core.errors import TowlineError
from towline.core.handler import BODY_SIGNATURE, Described
from towline.core.manifest import Handler
from towline.engines.handlers import chatter
from towline.engines.handlers.declared import declared_by, load_class

# Of its own, written to or not; a framework maps far more than that without ever using it.
_DATA_BYTES = 16 << 30
_FILE_BYTES = 64 << 20


def main(argv: list[str]) -> None:
    file, class_name, seconds, descriptor = Path(argv[0]), argv[1], int(argv[2]), int(argv[3])
    _limit(seconds)
    stop_listening = chatter.listen(class_name)
    raw = msgspec.json.encode(described(file, class_name))
    with os.fdopen(descriptor, "wb") as report:
        report.write(raw)
    stop_listening()
    # Threads that the user's import has started must not keep this process.
    os._exit(0)


def _limit(seconds: int) -> None:
    for what, soft, hard in (
        (resource.RLIMIT_DATA, _DATA_BYTES, _DATA_BYTES),
        (resource.RLIMIT_CPU, 4 * seconds, 4 * seconds + 1),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, _FILE_BYTES, _FILE_BYTES),
    ):
        given = resource.getrlimit(what)[1]
        most = hard if given == resource.RLIM_INFINITY else min(hard, given)
        resource.setrlimit(what, (min(soft, most), most))
    # Ends this process also when whoever waits for it has gone.
    signal.setitimer(signal.ITIMER_REAL, seconds + 1)


def described(file: Path, class_name: str) -> Described:
    try:
        found = declared_by(load_class(file, class_name))
    except TowlineError as error:
        return Described(Handler(class_name), BODY_SIGNATURE, error=error.message, code=error.code, hint=error.hint)
    except (Exception, SystemExit) as error:
        # Attributes may be properties of a metaclass, whatever they do.
        return Described(Handler(class_name), BODY_SIGNATURE, error=f"Reading the class raised {type(error).__name__}.", code="BAD_HANDLER")
    return Described(found.handler, found.signature, found.max_batch, found.sample, platform.python_version())


if __name__ == "__main__":
    main(sys.argv[1:])
