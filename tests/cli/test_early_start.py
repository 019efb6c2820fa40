"""`towline serve` starts its fork server before it reads its own words, and a command that is refused leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

# Says for each process that was started what had been imported by then, and which of them live when the command is over.
SCRIPT = """
import json, os, sys
from towline.cli.main import main

started, spawn = [], os.posix_spawn

def spawning(*arguments, **options):
    pid = spawn(*arguments, **options)
    started.append({"pid": pid, "module": arguments[1][3], "click": "click" in sys.modules, "config": "towline.core.config" in sys.modules})
    return pid

os.posix_spawn = spawning
code = main()
sys.stdout.flush()
print("\\n" + json.dumps([code, started]))
"""


def told_by(*words: str) -> tuple[int, list[dict[str, Any]]]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True, timeout=300)
    code, started = json.loads(done.stdout.rpartition("\n\n")[2] or done.stdout)
    return code, started


def lives(pid: int) -> bool:
    """A zombie does not: its parent has gone, and not everywhere does somebody else reap it soon."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_fork_server_is_started_before_the_command_imports_what_reads_its_words(tmp_path: Path) -> None:
    code, started = told_by("serve", "--nonsense", "--home", str(tmp_path))

    assert code == 2
    assert [(one["module"], one["click"], one["config"]) for one in started] == [("towline.engines.forks", False, False)]


def test_a_command_that_was_refused_leaves_no_fork_server(tmp_path: Path) -> None:
    pid = told_by("serve", "--nonsense", "--home", str(tmp_path))[1][0]["pid"]

    until_s = time.monotonic() + 30
    while lives(pid) and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not lives(pid)


def test_nothing_is_started_early_for_help_or_for_another_command(tmp_path: Path) -> None:
    assert told_by("serve", "--help") == (0, [])
    assert told_by("ls", "--home", str(tmp_path)) == (0, [])
