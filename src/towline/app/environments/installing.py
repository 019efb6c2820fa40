"""Run pip for an environment: what it does in a few words, what went wrong in one line, and nothing of it left running."""

from __future__ import annotations

import importlib.util
import os
import re
import select
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from towline.core.errors import TowlineError
from towline.core.process import become

Progress = Callable[[str], None]

STILL_THERE_S = 15.0
_LAST_LINES = 40
_LINE_LIMIT = 300
# Where pip would put packages elsewhere, and modules that are not of the environment.
_MISLEADING = ("PIP_PREFIX", "PIP_PYTHON", "PIP_REQUIREMENT", "PIP_ROOT", "PIP_TARGET", "PIP_USER", "PYTHONHOME", "PYTHONPATH")
_CREDENTIALS = re.compile(r"(://)[^/@\s]+@")
_STEPS = re.compile(r"\s*(Downloading|Using cached|Processing|Building wheel for|Installing collected packages:|Cloning)\s+(.+)")


def make_venv(folder: Path, *, python: str, held: Sequence[int] = ()) -> list[str]:
    """An empty environment in `folder`, and the command line of a pip that fills it. `held` are descriptors that our children keep open.

    Raises TowlineError.
    """
    ours = _own_pip()
    words = [python, "-m", "venv", *(["--without-pip"] if ours else []), str(folder)]
    said, code = run(words, held=held)
    if code != 0:
        raise TowlineError(
            f"{python} makes no environment: {last_words(said)}",
            code="ENVIRONMENT_FAILED",
            hint="Debian keeps part of it in a package of its own: apt-get install python3-venv",
        )
    inside = str(folder / "bin" / "python")
    return [inside, str(ours)] if ours else [inside, "-m", "pip"]


def _own_pip() -> Path | None:
    """The file of our own pip that runs it in another Python: quicker than a pip for each environment, and mostly newer."""
    found = importlib.util.find_spec("pip")
    if found is None or found.origin is None:
        return None
    runner = Path(found.origin).with_name("__pip-runner__.py")
    return runner if runner.is_file() else None


def install(
    pip: Sequence[str], requirements: Sequence[str], *, progress: Progress, still_there: Callable[[], str], held: Sequence[int] = ()
) -> None:
    """`pip install`; `still_there` is asked for words when pip has been silent for a while. Raises TowlineError with pip's last words."""

    def tell(line: str) -> None:
        if words := step(line):
            progress(words)

    words = [*pip, "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-warn-script-location"]
    said, code = run([*words, *requirements], heard=tell, silent=lambda: progress(still_there()), held=held)
    if code != 0:
        raise TowlineError(
            f"pip could not install what the environment needs: {last_words(said)}",
            code="ENVIRONMENT_FAILED",
            hint="pip's own settings apply: PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS, PIP_PROXY. Then run this again.",
        )


def run(
    words: Sequence[str],
    *,
    heard: Callable[[str], None] = lambda line: None,
    silent: Callable[[], None] = lambda: None,
    held: Sequence[int] = (),
) -> tuple[list[str], int]:
    """The last lines that a command said, and how it ended. It and its children end with us, however we end."""
    parent = os.getpid()
    process = subprocess.Popen(
        list(words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(os.environ),
        pass_fds=tuple(held),
        start_new_session=True,
        preexec_fn=lambda: become("towline-pip", parent=parent),
    )
    try:
        return _listen(process, heard, silent), process.wait()
    except BaseException:
        # pip's own children too: they are of its group, whose number is taken until it is waited for.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise


def _listen(process: subprocess.Popen[bytes], heard: Callable[[str], None], silent: Callable[[], None]) -> list[str]:
    assert process.stdout is not None
    said: deque[str] = deque(maxlen=_LAST_LINES)
    waiting = b""
    told_s = time.monotonic()
    with process.stdout as pipe:
        while True:
            if not select.select([pipe], [], [], STILL_THERE_S)[0] or time.monotonic() - told_s > STILL_THERE_S:
                told_s = time.monotonic()
                silent()
                continue
            piece = os.read(pipe.fileno(), 1 << 16)
            *lines, waiting = (waiting + piece).split(b"\n") if piece else [waiting, b""]
            for line in lines:
                said.append(line.decode("utf-8", "replace").rstrip())
                heard(said[-1])
            if not piece:
                return list(said)
            waiting = waiting[-_LINE_LIMIT:]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip and the Pythons of environments are told: all of ours but what would mislead them."""
    return {name: value for name, value in environ.items() if name not in _MISLEADING}


def step(line: str) -> str:
    """What is worth telling of a line of pip's, without the folders of files; empty if nothing. Pure."""
    found = _STEPS.match(line)
    if not found:
        return ""
    doing, what = found.groups()
    if doing == "Installing collected packages:":
        return f"Installing {what.count(',') + 1} packages"
    # In parentheses is a size, or who asked for it.
    name, _, size = what.partition(" (")
    told = {"Using cached": "Have", "Processing": "Have", "Building wheel for": "Building", "Cloning": "Cloning"}.get(doing, doing)
    return _clean(f"{told} {name.rstrip('/').rpartition('/')[2]}" + (f" ({size}" if size and not size.startswith("from ") else ""))


def last_words(said: Sequence[str]) -> str:
    """The line that tells why: pip's last ERROR, else the last line at all; without credentials. Pure."""
    spoken = [line.strip() for line in said if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in spoken if line.startswith("ERROR: ")]
    return _clean((errors or spoken or ["it said nothing"])[-1])


def _clean(words: str) -> str:
    return _CREDENTIALS.sub(r"\1", words)[:_LINE_LIMIT]
