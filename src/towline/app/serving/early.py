"""Start a server's fork server before the command has read its own words: both then import at the same time. Needs next to no imports."""

from __future__ import annotations

import os
import socket
import sys

# -P: a numpy.py in the folder this was started in is not ours to run.
PYTHON = (sys.executable, "-P", "-m")
FORK_SERVER = ("towline.engines.forks", "fork-server", "{channel}")


# The pid of a child of ours, and our end of its channel.
Begun = tuple[int, socket.socket]


def begin() -> Begun | None:
    """None when the system has no room for it now: whoever needs it tries again."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        os.set_inheritable(theirs.fileno(), True)
        words = [str(theirs.fileno()) if word == "{channel}" else word for word in (*PYTHON, *FORK_SERVER)]
        try:
            pid = os.posix_spawn(sys.executable, words, os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)])
        except OSError:
            ours.close()
            return None
    return pid, ours
