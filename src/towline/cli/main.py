"""The `towline` command. What a server waits for longest is started before this process imports anything of its own."""

from __future__ import annotations

import os
import sys


def main(arguments: list[str] | None = None) -> int:
    """Run one command line; returns its exit code (cli/exits.py). Never a traceback, unless TOWLINE_DEBUG is set."""
    # Our child processes run `python -m …`: a file called numpy.py in the current folder must not be what they import.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    # Not inside somebody else's program, who gives us words: should they be refused, what was begun ends with this process.
    begun = _begin() if arguments is None and sys.argv[1:2] == ["serve"] and not {"-h", "--help"} & set(sys.argv) else None
    from towline.cli.group import run

    return run(sys.argv[1:] if arguments is None else arguments, begun)


def _begin() -> object:
    from towline.app.serving.early import begin

    return begin()
