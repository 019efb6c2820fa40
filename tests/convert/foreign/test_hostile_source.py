"""A source whose code tries something while it is read is stopped, and what it tried is named. In real converter processes."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from towline.convert.base import Task
from towline.convert.foreign.converter import Converter, Launch
from towline.convert.foreign.importers import Entry
from towline.convert.foreign.lookout import Allowed
from towline.core.errors import ImportRefused
from towline.core.walls import Walls
from towline.secure.sandbox.launch import launch, launch_behind

HERE = Path(__file__).parent
ENTRY = Entry("hostile", "", "hostile_importer:HostileImporter")
LENT = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"

Load = Callable[..., Converter]


def beside_this_test(start: Launch) -> Launch:
    """Behind the same walls, with the folder of this test among what may be read and imported."""

    def started(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls) -> subprocess.Popen[bytes]:
        python, _, _, module, *words = argv
        return start(
            [python, "-P", "-c", LENT, str(HERE), module, *words],
            pass_fds,
            Walls(reads=(*walls.reads, HERE), writes=walls.writes),
        )

    return started


def unwalled(argv: Sequence[str], pass_fds: Sequence[int], walls: Walls) -> subprocess.Popen[bytes]:
    return launch_behind(argv, pass_fds, walls, trusted=True)[0]


@pytest.fixture
def converter(tmp_path: Path) -> Iterator[Load]:
    source, scratch = tmp_path / "model.bin", tmp_path / "scratch"
    source.write_text("weights")
    scratch.mkdir()
    made: list[Converter] = []

    def make(deed: str, target: object = "", start: Launch = launch) -> Converter:
        task = Task(source, scratch, options={"deed": deed, "target": str(target)})
        made.append(Converter(ENTRY, task, python="", launch=beside_this_test(start)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refused(converter: Converter) -> ImportRefused:
    with pytest.raises(ImportRefused) as found:
        converter.load()
    return found.value


@pytest.mark.parametrize(
    ("deed", "says"),
    [
        ("read", "tried to read '{}'"),
        ("write", "tried to write '{}'"),
        ("move", "tried to rename '{}'"),
        ("load", "tried to load the library '{}'"),
    ],
)
def test_what_it_tries_with_a_file_is_named(converter: Load, tmp_path: Path, deed: str, says: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("as it was")

    refusal = refused(converter(deed, secret))

    assert refusal.code == "SOURCE_ESCAPES"
    # Long names are cut.
    assert says.format(secret)[:40] in refusal.message
    assert secret.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "scratch", "secret"]


@pytest.mark.parametrize(
    ("deed", "target", "says"),
    [
        ("fetch", "example.org", "connect to 'example.org:80'"),
        ("run", "/bin/sh", "run '/bin/sh -c true'"),
        ("replace", "/bin/true", "run '/bin/true'"),
        ("signal", "1", "send a signal to process 1"),
        ("send", "/run/nobody", "send to '/run/nobody'"),
    ],
)
def test_what_it_tries_with_others_is_named(converter: Load, deed: str, target: str, says: str) -> None:
    refusal = refused(converter(deed, target))

    assert (refusal.code, refusal.message) == ("SOURCE_ESCAPES", f"The source tried to {says} while it was read; it is not taken.")


def test_a_connection_is_named_and_never_made(converter: Load) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"127.0.0.1:{server.getsockname()[1]}"

        assert f"tried to connect to '{address}'" in refused(converter("connect", address)).message
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("deed", ["natively", "by a socket"])
def test_what_nobody_hears_comes_to_the_wall_and_that_is_told(converter: Load, tmp_path: Path, deed: str) -> None:
    refusal = refused(converter(deed, tmp_path / "canary"))

    assert refusal.code == "SOURCE_ESCAPES"
    assert "the walls around it do not allow" in refusal.message
    assert not (tmp_path / "canary").exists()


def test_what_libraries_do_of_themselves_is_no_attempt(converter: Load) -> None:
    assert converter("what libraries do").load().routes == ("linked",)


def test_nothing_is_written_or_read_through_links_that_were_planted(converter: Load, tmp_path: Path) -> None:
    # Without walls, which allow no links: the second line holds alone.
    secret = tmp_path / "secret"
    secret.write_text("as it was")
    asked = converter("plant", secret, unwalled)
    asked.load()

    with pytest.raises(ImportRefused, match="wrote where it is asked"):
        asked.answer({"x": np.float32([1])}, signature="serving_default")
    assert secret.read_text() == "as it was"
    assert asked.chatter() == ""


def test_last_words_are_not_read_through_a_link(converter: Load, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("as it was")

    refusal = refused(converter("die behind a link", secret, unwalled))

    assert refusal.code == "CONVERTER_DIED"
    assert "as it was" not in refusal.message


def test_a_folder_that_is_a_link_is_not_taken(converter: Load) -> None:
    asked = converter("what libraries do", start=unwalled)
    asked.load()

    with pytest.raises(ImportRefused, match="made no folder"):
        asked.convert("linked")


ALLOWED = Allowed(("/data/model", sys.prefix), "/scratch", 42)


@pytest.mark.parametrize(
    ("event", "arguments", "tried"),
    [
        ("open", ("/data/model/weights", "r", 0), ""),
        ("open", ("/data/models", "r", 0), "read '/data/models'"),
        ("open", ("/data/model/weights", "r+", 0), "write '/data/model/weights'"),
        ("open", ("/data/model/../secret", "r", 0), "read '/data/model/../secret'"),
        ("open", ("/scratch/x", "w", 0), ""),
        ("open", (b"/etc/shadow", "r", 0), "read '/etc/shadow'"),
        ("open", (7, "w", 0), ""),
        ("open", ("/dev/null", "w", 0), ""),
        ("open", ("/dev/sda", "w", 0), "write '/dev/sda'"),
        ("open", ("/proc/41/environ", "r", 0), "read '/proc/41/environ'"),
        ("open", ("/proc/42/maps", "r", 0), ""),
        ("os.link", ("/data/model/weights", "/scratch/x", -1, -1), "link '/data/model/weights'"),
        ("os.remove", ("/data/model", -1), "remove '/data/model'"),
        ("os.mkdir", ("/tmp/x", 511, -1), "make '/tmp/x'"),
        ("os.listdir", ("/home",), "list '/home'"),
        ("os.system", (b"true",), "run 'true'"),
        ("socket.gethostbyname", ("example.org",), "look up 'example.org'"),
        ("os.symlink", ("/etc", "/scratch/x", -1), ""),
        ("socket.connect", (None, ("::1", 80, 0, 0)), "connect to '::1:80'"),
        ("socket.connect", (None, "/run/docker.sock"), "connect to '/run/docker.sock'"),
        ("socket.sendmsg", (None, None), ""),
        ("socket.bind", (None, ("::1", 0)), ""),
        ("socket.bind", (None, ("0.0.0.0", 4444)), "listen at '0.0.0.0:4444'"),
        ("subprocess.Popen", ("/usr/bin/lscpu", ["lscpu", "-p"], None, None), ""),
        ("subprocess.Popen", ("/bin/sh", ["/bin/sh", "-c", "lscpu"], None, None), "run '/bin/sh -c lscpu'"),
        ("ctypes.dlopen", ("libc.so.6",), ""),
        ("ctypes.dlopen", (None,), ""),
        ("os.kill", (42, 11), ""),
        ("open", ("/home/\n\x1b[2J", "r", 0), "read '/home/\\n\\x1b[2J'"),
        ("compile", (None, None), ""),
    ],
)
def test_an_event_is_harmless_or_has_a_name(event: str, arguments: tuple[object, ...], tried: str) -> None:
    assert ALLOWED.attempt(event, arguments) == tried
