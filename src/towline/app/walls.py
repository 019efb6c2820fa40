"""Which launcher converters get: the sandbox."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from towline.convert.foreign.converter import Launch
from towline.core.walls import Walls


def launcher(*, trust: bool) -> Launch:
    def launch(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls) -> subprocess.Popen[bytes]:
        return subprocess.Popen(argv, pass_fds=pass_fds, stdin=subprocess.DEVNULL)

    return launch
