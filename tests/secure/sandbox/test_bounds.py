"""Time, memory, disk and processes of whoever is behind the walls are bounded, and nothing of it is left over afterwards."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towline.core.errors import ImportRefused
from towline.core.walls import Walls
from towline.secure.sandbox.launch import launch, launch_behind, launch_vouched, standing

# With and without a process table of its own: other things end what was left behind.
EITHER = pytest.mark.parametrize("without", [(), ("namespaces",)], ids=["own process table", "the machine's process table"])
SPAWNS = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        time.sleep(600)
"""
BOMB = """
import os, time
made = 0
try:
    while True:
        if os.fork() == 0:
            time.sleep(600)
        made += 1
except OSError:
    print(made)
"""


@pytest.fixture
def held() -> Iterator[tuple[int, int]]:
    """A pipe whose writing end the program and its children get: it is at its end when the last of them is gone."""
    read, write = os.pipe()
    yield read, write
    os.close(read)


def all_gone(read: int) -> bool:
    return bool(select.select([read], [], [], 120)[0]) and os.read(read, 1) == b""


def run(code: str, walls: Walls, *, without: tuple[str, ...] = ()) -> tuple[int, str]:
    process, _ = launch_behind([sys.executable, "-c", code], (), walls, without=without)
    return process.wait(120), (walls.writes[0] / "said.log").read_text()


def test_the_end_of_the_program_is_told_as_it_was(tmp_path: Path) -> None:
    assert run("import sys; sys.exit(7)", Walls(writes=(tmp_path,)))[0] == 7
    assert run("import os; os.abort()", Walls(writes=(tmp_path,)))[0] == -signal.SIGABRT
    assert run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", Walls(writes=(tmp_path,)))[0] == -signal.SIGKILL


def test_a_program_finds_itself_in_its_scratch_folder_with_a_home_there(tmp_path: Path) -> None:
    code = "import os, tempfile; print(os.getcwd(), os.path.expanduser('~'), tempfile.gettempdir(), sep='\\n')"

    _, said = run(code, Walls(writes=(tmp_path,)))

    assert said.split() == [str(tmp_path)] * 3


def test_only_the_descriptors_that_were_passed_are_open(tmp_path: Path, held: tuple[int, int]) -> None:
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        process = launch(
            [sys.executable, "-c", "import os; print(*sorted(os.listdir('/proc/self/fd')))"], (held[1],), Walls(writes=(tmp_path,))
        )
        process.wait(120)
    finally:
        os.close(secret)
        os.close(held[1])

    # The last is that of the listing itself.
    assert len((tmp_path / "said.log").read_text().split()) == 5


def test_a_fork_bomb_stops_at_its_bound(tmp_path: Path) -> None:
    code, said = run(BOMB, Walls(writes=(tmp_path,), processes=20))

    assert code == 0
    assert 0 < int(said) <= 20


def test_what_it_prints_is_bounded(tmp_path: Path) -> None:
    run("while True: print('x' * 65536)", Walls(writes=(tmp_path,), file_bytes=1 << 20))

    assert (tmp_path / "said.log").stat().st_size <= 1 << 20


@EITHER
def test_many_files_fill_no_disk(tmp_path: Path, without: tuple[str, ...]) -> None:
    writes = "import itertools\nfor n in itertools.count():\n    open(f'{n}', 'wb').write(bytes(1 << 16))"

    code, said = run(writes, Walls(writes=(tmp_path,), disk_bytes=4 << 20), without=without)

    assert code == -signal.SIGKILL
    assert said.endswith("stopped: it wrote more than 4 MiB\n")


def test_time_of_the_processor_is_bounded(tmp_path: Path) -> None:
    assert run("while True: pass", Walls(writes=(tmp_path,), cpu_s=1))[0] in (-signal.SIGXCPU, -signal.SIGKILL)


def test_memory_is_bounded(tmp_path: Path) -> None:
    code, said = run("bytearray(512 << 20)", Walls(writes=(tmp_path,), memory_bytes=256 << 20))

    assert code == 1
    assert said.endswith("MemoryError\n")


@EITHER
def test_who_is_killed_takes_all_he_started_along(tmp_path: Path, held: tuple[int, int], without: tuple[str, ...]) -> None:
    words = [sys.executable, "-c", SPAWNS + f"os.write({held[1]}, b'x')\ntime.sleep(600)"]
    process, _ = launch_behind(words, (held[1],), Walls(writes=(tmp_path,)), without=without)
    os.close(held[1])
    assert os.read(held[0], 1) == b"x"

    process.kill()
    process.wait()

    assert all_gone(held[0])


@EITHER
def test_who_ends_leaves_nobody_behind(tmp_path: Path, held: tuple[int, int], without: tuple[str, ...]) -> None:
    process, _ = launch_behind([sys.executable, "-c", SPAWNS], (held[1],), Walls(writes=(tmp_path,)), without=without)
    os.close(held[1])

    assert process.wait(120) == 0
    assert all_gone(held[0])


@EITHER
def test_the_program_ends_with_whoever_started_it(tmp_path: Path, held: tuple[int, int], without: tuple[str, ...]) -> None:
    starter = f"""
import sys, time
from pathlib import Path
from towline.core.walls import Walls
from towline.secure.sandbox.launch import launch_behind
words = [sys.executable, "-c", "import time; time.sleep(600)"]
launch_behind(words, ({held[1]},), Walls(writes=(Path({str(tmp_path)!r}),)), without={without!r})
print("started", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE, pass_fds=[held[1]]) as process:
        os.close(held[1])
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.kill()

    assert all_gone(held[0])


@pytest.mark.parametrize(
    ("without", "missing"), [(("namespaces", "landlock"), "files"), (("namespaces", "seccomp"), "the network")], ids=["files", "network"]
)
def test_where_no_walls_stand_nothing_is_started(tmp_path: Path, without: tuple[str, ...], missing: str) -> None:
    with pytest.raises(ImportRefused, match=missing) as refused:
        launch_behind([sys.executable, "-c", "open('started', 'w')"], (), Walls(writes=(tmp_path,)), without=without)

    assert refused.value.code == "NO_SANDBOX"
    assert "--trust-this-file" in refused.value.hint
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize("without", [(), ("namespaces", "landlock")], ids=["walls", "no walls"])
def test_what_somebody_vouches_for_needs_no_walls_and_gets_those_that_stand(tmp_path: Path, without: tuple[str, ...]) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    process = launch_vouched([sys.executable, "-c", code], (), Walls(writes=(tmp_path,)), without=without)

    assert process.wait(120) == 1
    # Nobody listens there, which is not found out behind walls.
    assert ("ConnectionRefusedError" in (tmp_path / "said.log").read_text()) == bool(without)


def test_a_program_that_is_not_there_is_no_walls_fault(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="No such file"):
        launch([str(tmp_path / "python")], (), Walls(writes=(tmp_path,)))


def test_the_walls_that_stand_are_told() -> None:
    walls = {wall.name: wall for wall in standing()}

    assert walls["namespaces"].stands or walls["landlock"].stands
    assert all(wall.keeps for wall in walls.values())


def test_a_source_is_read_through_a_link_and_however_its_folder_is_kept(tmp_path: Path) -> None:
    scratch, private = tmp_path / "scratch", tmp_path / "private"
    scratch.mkdir()
    private.mkdir(mode=0o700)
    (private / "model.bin").write_text("weights")
    (private / "model.bin").chmod(0o600)
    (tmp_path / "link").symlink_to(private / "model.bin")

    code, said = run(f"print(open({str(tmp_path / 'link')!r}).read())", Walls(reads=(tmp_path / "link",), writes=(scratch,)))

    assert (code, said) == (0, "weights\n")
