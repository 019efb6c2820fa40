"""A user's handler file becomes a version: what is copied, what is read by whom, and what is told of one that cannot be taken."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towline.app.importing.model import ImportResult, import_model
from towline.convert.handler import copy_handler, describe_handler, handler_source
from towline.core.errors import ImportRefused, Kind, TowlineError, UsageError, VersionError
from towline.core.handler import BODY_SIGNATURE
from towline.core.version import check_sealed

PLAIN = """
class Plain:
    sample = {"a": 1}

    def predict(self, request):
        return request


class Other(Plain):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "plain.py").write_text(PLAIN)
    yield tmp_path
    assert not {"plain", "mine"} & set(sys.modules), "a handler was imported into this process"


def write(folder: Path, code: str) -> str:
    (folder / "mine.py").write_text(code)
    return f"{folder / 'mine.py'}:Mine"


def described(folder: Path, code: str, timeout_s: float = 180.0) -> object:
    write(folder, code)
    into = folder / f"staged-{len(list(folder.iterdir()))}"
    into.mkdir()
    return describe_handler(copy_handler(folder / "mine.py", (), into), "Mine", timeout_s=timeout_s)


def imported(folder: Path, source: str, **more: object) -> ImportResult:
    return import_model(source, home=folder / "home", **more)  # type: ignore[arg-type]


def ends(pid: int) -> bool:
    """Whether a process, which need not be ours, is gone or goes soon."""
    try:
        watch = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watch], [], [], 60.0)[0])
    finally:
        os.close(watch)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.py:B", ("a.py", "B")),
        ("/x y/a.py:B_1", ("/x y/a.py", "B_1")),
        ("c:/a.py:B", ("c:/a.py", "B")),
        ("a.py", None),
        ("a.py:", None),
        ("a.py:1", None),
        ("a.py:B.C", None),
        ("a:3", None),
        ("model.onnx", None),
    ],
)
def test_a_handler_is_written_as_its_file_and_its_class(text: str, found: tuple[str, str] | None) -> None:
    assert handler_source(text) == ((Path(found[0]), found[1]) if found else None)


def test_a_plain_class_becomes_a_sealed_version_that_is_there_the_next_time(folder: Path) -> None:
    first = imported(folder, f"{folder / 'plain.py'}:Plain")
    again = imported(folder, f"{folder / 'plain.py'}:Plain")
    other = imported(folder, f"{folder / 'plain.py'}:Other", name="Plain")

    manifest = first.version.manifest
    assert (first.existed, again.existed, other.existed) == (False, True, False)
    assert (again.version.digest, other.version.number) == (first.version.digest, 2)
    assert (manifest.engine, manifest.signature, manifest.model_file) == ("python", BODY_SIGNATURE, "handler/plain.py")
    assert manifest.measured.deterministic
    assert len(manifest.golden) == 1
    # It was loaded from there: nothing was written beside the file.
    check_sealed(first.version.path, first.version.digest)
    assert [path.name for path in (first.version.path / "handler").iterdir()] == ["plain.py"]


def test_without_a_sample_the_report_says_that_nothing_was_tried(folder: Path) -> None:
    result = imported(folder, write(folder, "class Mine:\n    def predict(self, x):\n        return x\n"))

    assert result.version.manifest.golden == ()
    assert result.report.warnings == ("It was not tried: it declares no signature and no sample.",)


def test_one_that_keeps_state_is_tried_once_and_replays_nothing(folder: Path) -> None:
    code = (
        "class Mine:\n    stateful = True\n    sample = 1\n    n = 0\n"
        "    def predict(self, x):\n        self.n += 1\n        return self.n\n"
    )

    manifest = imported(folder, write(folder, code)).version.manifest

    assert (manifest.golden, manifest.batchable, manifest.unbatchable_because) == ((), False, "it keeps state")


def test_a_sample_file_is_the_body_and_another_one_another_version(folder: Path) -> None:
    source = write(folder, "class Mine:\n    takes = 'bytes'\n    def predict(self, raw):\n        return raw[::-1]\n")
    (folder / "a.bin").write_bytes(b"\x00ab")
    (folder / "b.bin").write_bytes(b"cd")

    first, second = (imported(folder, source, sample=folder / name) for name in ("a.bin", "b.bin"))

    assert first.version.digest != second.version.digest
    assert b"ba\x00" in (first.version.path / first.version.manifest.golden[0].response).read_bytes()


def test_what_is_included_lies_beside_the_file_and_can_be_imported_and_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Python would leave compiled files beside what it imports, and the version would no longer be what was sealed.
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    parts = folder / "parts"
    (parts / "__pycache__").mkdir(parents=True)
    (parts / "__pycache__" / "left.pyc").write_bytes(b"x")
    (parts / "__init__.py").write_text("")
    (parts / "double.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "offset.txt").write_text("5")
    code = (
        "from parts.double import double\n"
        "class Mine:\n"
        "    sample = 4\n"
        "    def setup(self, folder, device):\n"
        "        self.offset = int((folder / 'offset.txt').read_text())\n"
        "    def predict(self, x):\n"
        "        return double(x) + self.offset\n"
    )

    version = imported(folder, write(folder, code), include=(parts, folder / "offset.txt")).version

    files = sorted(
        path.relative_to(version.path / "handler").as_posix() for path in (version.path / "handler").rglob("*") if path.is_file()
    )
    assert files == ["mine.py", "offset.txt", "parts/__init__.py", "parts/double.py"]
    assert b"13" in (version.path / version.manifest.golden[0].response).read_bytes()


@pytest.mark.parametrize(
    ("what", "code"), [("link", "NOT_A_FILE"), ("folder of a link", "NOT_A_FILE"), ("pipe", "NOT_A_FILE"), ("twice", "SAME_NAME")]
)
def test_links_pipes_and_two_files_of_one_name_are_refused(folder: Path, what: str, code: str) -> None:
    inside = folder / "inside"
    inside.mkdir()
    (inside / "link").symlink_to("/etc/hostname")
    (folder / "link").symlink_to("/etc/hostname")
    os.mkfifo(folder / "pipe")
    given = {"link": folder / "link", "folder of a link": inside, "pipe": folder / "pipe", "twice": folder / "plain.py"}[what]
    into = folder / "staged"
    into.mkdir()

    with pytest.raises(ImportRefused) as caught:
        copy_handler(folder / "plain.py", (given,), into)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("code", "kind", "error", "said"),
    [
        ("import no_such_package.inner\n", Kind.MISSING_EXTRA, "MISSING_PACKAGE", "imports 'no_such_package'"),
        ("x = 1\nraise ValueError('so it is')\n", Kind.INVALID, "HANDLER_FAILED", "(line 2) raised ValueError: so it is"),
        ("x = (\n", Kind.INVALID, "HANDLER_FAILED", "(line 1) raised SyntaxError"),
        ("import sys\nsys.exit(0)\n", Kind.INVALID, "HANDLER_FAILED", "raised SystemExit"),
        ("class Yours:\n    pass\n", Kind.INVALID, "NO_SUCH_CLASS", "has no class 'Mine'"),
        ("class Mine:\n    pass\n", Kind.INVALID, "BAD_HANDLER", "no method 'predict'"),
        ("import os\nos.abort()\n", Kind.INVALID, "INSPECTION_DIED", "was killed by SIGABRT"),
        ("import os\nos._exit(7)\n", Kind.INVALID, "INSPECTION_DIED", "ended with status 7"),
        ("import os\nos._exit(0)\n", Kind.INVALID, "INSPECTION_DIED", "without an answer"),
    ],
)
def test_a_file_that_cannot_be_imported_is_told_by_what_went_wrong(folder: Path, code: str, kind: Kind, error: str, said: str) -> None:
    with pytest.raises(ImportRefused) as caught:
        described(folder, code)

    assert (caught.value.kind, caught.value.code) == (kind, error)
    assert said in caught.value.message
    assert str(folder) not in caught.value.message


def test_a_file_that_never_ends_is_given_up_and_takes_what_it_started_along(folder: Path) -> None:
    told = folder / "child"
    starts = f"import subprocess\nchild = subprocess.Popen(['sleep', '600'])\nopen({str(told)!r}, 'w').write(str(child.pid))\n"
    code = f"{starts}while True:\n    pass\n"

    # As long as this machine takes for what comes before the endless part.
    for timeout_s in (1, 8, 64):
        with pytest.raises(ImportRefused, match=f"took longer than {timeout_s} seconds"):
            described(folder, code, timeout_s=timeout_s)
        if told.exists() and told.read_text():
            break

    assert ends(int(told.read_text()))


def test_what_a_file_prints_while_it_is_imported_is_not_taken_for_its_description(folder: Path) -> None:
    code = "import os\nprint('{}' * 1000)\nos.write(1, b'nonsense')\nclass Mine:\n    def predict(self, x):\n        return x\n"

    assert described(folder, code).handler.class_name == "Mine"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (
            "    def setup(self, folder, device):\n        raise OSError('secret')\n",
            "HANDLER_FAILED",
            "The handler's setup raised OSError.",
        ),
        ("    def __init__(self):\n        1 / 0\n", "HANDLER_FAILED", "The handler's __init__ raised ZeroDivisionError."),
        ("    sample = 1\n    def decode(self, x):\n        return x['a']\n", "SAMPLE_REFUSED", "decode raised TypeError"),
    ],
)
def test_one_that_fails_where_it_is_set_up_or_tried_is_no_version(folder: Path, body: str, error: str, said: str) -> None:
    source = write(folder, f"class Mine:\n{body}    def predict(self, x):\n        return x\n")

    with pytest.raises(TowlineError) as caught:
        imported(folder, source)

    assert isinstance(caught.value, VersionError | ImportRefused)
    assert caught.value.code == error
    assert said in caught.value.message
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("source", "more", "said"),
    [
        ("plain.py", {}, "which class of this file"),
        ("plain.py:", {}, "which class of this file"),
        ("none.py:Plain", {}, "No such file"),
        ("plain.py:Plain", {"include": ("nothing",)}, "No such file or folder"),
        ("plain.py:Plain", {"labels": "plain.py"}, "names the classes of its answers itself"),
        ("plain.py:Plain", {"sample": "nothing"}, "No such file"),
    ],
)
def test_what_is_asked_wrongly_is_told_before_a_store_is_made(folder: Path, source: str, more: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        imported(folder, str(folder / source), **more)

    assert not (folder / "home").exists()
