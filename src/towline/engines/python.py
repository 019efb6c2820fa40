"""A user's own class as an engine: setup / decode / predict / encode, sync, async or generator. Imported only in a worker."""

from __future__ import annotations

import inspect
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from towline.core.engine import EngineOptions
from towline.core.errors import VersionError
from towline.core.manifest import Manifest, Signature
from towline.engines.handlers import chatter
from towline.engines.handlers.declared import declared_by, load_class
from towline.engines.handlers.session import Loop, PythonSession, users_code


class PythonEngine:
    name = "python"

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> PythonSession:
        """Import the class, make one object of it and call its `setup(folder, device)`. The caller has checked the digest."""
        if manifest.handler is None:
            raise VersionError("This version names no handler class.", code="LOAD_FAILED")
        file = folder / manifest.model_file
        chatter.listen(manifest.handler.class_name)
        _let_threads_fail()
        declared = declared_by(load_class(file, manifest.handler.class_name))
        loop = Loop()
        with users_code("__init__"):
            user = declared.kind()
        _set_up(user, file.parent, options.device, loop)
        return PythonSession(user, declared, loop, max_answer_bytes=options.max_answer_bytes)

    def describe(self, folder: Path, model_file: str) -> Signature:
        """`model_file` is FILE:CLASS."""
        file, _, class_name = model_file.rpartition(":")
        return declared_by(load_class(folder / file, class_name)).signature

    def devices(self) -> tuple[str, ...]:
        """Devices are the handler's own affair: what it is told is handed on to its `setup`."""
        return ("cpu",)


def _set_up(user: Any, folder: Path, device: str, loop: Loop) -> None:
    setup = getattr(user, "setup", None)
    if setup is None:
        return
    with users_code("setup"):
        value = setup(folder, device)
        if inspect.isawaitable(value):
            loop.wait_for(value)


def _let_threads_fail() -> None:
    """A thread of the user's that fails is told in the log; one of ours still ends the worker."""
    ours = threading.excepthook

    def hook(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is not None and failure.thread.name.startswith("towline-"):
            ours(failure)
        elif failure.exc_value is not None:
            sys.stderr.write("a thread failed\n" + "".join(traceback.format_exception(failure.exc_value)))

    threading.excepthook = hook
