"""Import what watched folders hold: ONNX at once, anything else in a process of its own, while what is served is looked after.

    python -m towline.app.serving.folder_imports PARENT HOME SOURCE NAME NUMBER
converts, proves and stores one version; on standard output it says what stood against it, if anything did.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from towline.convert.recognise import recognise
from towline.convert.watch import MODEL_FILE, Found
from towline.core.environments import python_of
from towline.core.errors import ImportRefused, MissingExtra, TowlineError
from towline.core.process import become, ignore_signals_of_the_terminal
from towline.core.worker_messages import error_from, error_message

log = logging.getLogger("towline.controller")

_MAX_REMEMBERED = 1024
# A conversion has minutes; requests have milliseconds.
_NICENESS = 5


@dataclass(frozen=True)
class Numbered:
    """A version of a watched folder, as it was found."""

    name: str
    number: int
    found: Found


class FolderImports:
    """What became of each version is remembered until its files change, so that asking again costs nothing. One conversion at a time."""

    def __init__(self, home: Path, import_onnx: Callable[[Path, str, int], None]) -> None:
        self._home = home
        self._import_onnx = import_onnx
        self._outcomes: dict[Numbered, TowlineError | None] = {}
        self._running: tuple[Numbered, subprocess.Popen[bytes]] | None = None

    def refusal(self, wanted: Numbered) -> TowlineError | None:
        """What is known to stand against it: its import failed, or the environment that it needs is not there yet."""
        self._collect()
        if wanted in self._outcomes:
            return self._outcomes[wanted]
        if wanted.found.source.name == MODEL_FILE:
            return None
        # Late: a server whose folders hold ONNX, or that has none, has no use for it.
        from towline.convert.foreign.importers import importer_entry

        try:
            source = recognise(wanted.found.source)
            environment = importer_entry(source.importer).environment if source is not None else ""
            if environment:
                python_of(environment)
        except MissingExtra as missing:
            return missing
        except OSError as error:
            return _unreadable(error)
        return None

    def bring_in(self, wanted: Numbered) -> bool:
        """Whether it is in the store; not yet, if it is being converted, or others are before it. Raises TowlineError that refuses it."""
        refusal = self.refusal(wanted)
        if refusal is not None:
            # It is kept: without the frames of those who asked before.
            raise refusal.with_traceback(None)
        if wanted in self._outcomes:
            return True
        if wanted.found.source.name != MODEL_FILE:
            if self._running is None:
                self._convert(wanted)
            return False
        try:
            self._import_onnx(wanted.found.source, wanted.name, wanted.number)
        except TowlineError as error:
            self._remember(wanted, error)
            raise
        except OSError as error:
            self._remember(wanted, _unreadable(error))
            raise _unreadable(error) from None
        self._remember(wanted, None)
        return True

    def _convert(self, wanted: Numbered) -> None:
        log.info("%s:%s is being converted, and compared with what it was: that takes a while", wanted.name, wanted.number)
        words = [str(os.getpid()), str(self._home), str(wanted.found.source), wanted.name, str(wanted.number)]
        # -P: a numpy.py in the folder this was started in is not ours to run.
        command = [sys.executable, "-P", "-m", __name__, *words]
        self._running = wanted, subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)

    def _collect(self) -> None:
        """See whether the conversion that is under way has ended, and how."""
        if self._running is None or self._running[1].poll() is None:
            return
        wanted, process = self._running
        self._running = None
        said = process.communicate()[0]
        if said:
            self._remember(wanted, error_from(json.loads(said), ImportRefused))
        elif process.returncode:
            how = f"The process that imported it ended with status {process.returncode}."
            self._remember(wanted, ImportRefused(how, code="IMPORT_DIED", hint="What it said is above, in the server's log."))
        else:
            log.info("%s:%s was converted, and answers as before", wanted.name, wanted.number)
            self._remember(wanted, None)

    def _remember(self, wanted: Numbered, outcome: TowlineError | None) -> None:
        self._outcomes[wanted] = outcome
        if len(self._outcomes) > _MAX_REMEMBERED:
            del self._outcomes[next(iter(self._outcomes))]


def _unreadable(error: OSError) -> TowlineError:
    return TowlineError(f"It cannot be read or stored: {error.strerror or type(error).__name__}.", code="DISK")


def main(argv: list[str]) -> None:
    parent, home, source, name, number = argv
    become("towline-import", parent=int(parent))
    ignore_signals_of_the_terminal()
    os.nice(_NICENESS)
    from towline.app.importing.model import import_into
    from towline.serve.workers.local import LocalWorker
    from towline.store.sqlite import open_store

    try:
        store = open_store(Path(home))
        _, worker = import_into(store, source, name=name, number=int(number), actor="server", start_worker=LocalWorker.start)
        if worker is not None:
            worker.close()
    except (TowlineError, OSError) as error:
        sys.stdout.write(json.dumps(error_message(error if isinstance(error, TowlineError) else _unreadable(error))))


if __name__ == "__main__":
    main(sys.argv[1:])
