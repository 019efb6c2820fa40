"""Archives that nobody vouched for: what is good comes out as it was, what is hostile is refused before a byte of it is written."""

from __future__ import annotations

import contextlib
import gzip
import io
import random
import stat
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.convert.archive_entries import Bounds
from towline.convert.archives import extract_archive
from towline.core.errors import ImportRefused

SMALL = Bounds(total_bytes=4 << 20, file_bytes=2 << 20, entries=100)


def zipped(*files: tuple[str | zipfile.ZipInfo, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", packing) as archive:
        warnings.simplefilter("ignore")
        for name, content in files:
            archive.writestr(name, content, compress_type=packing)
    return buffer.getvalue()


def zip_member(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def tarred(*members: tarfile.TarInfo | tuple[str, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for member in members:
            if isinstance(member, tuple):
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
            else:
                archive.addfile(member)
    return buffer.getvalue()


def tar_member(name: str, kind: bytes, target: str = "", pax: dict[str, str] | None = None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.pax_headers = kind, target, pax or {}
    return info


def renamed(archive: bytes, old: bytes, new: bytes) -> bytes:
    """The same bytes under a name that zipfile itself would not write."""
    assert len(old) == len(new)
    return archive.replace(old, new)


def with_overlap() -> bytes:
    """Two entries of one content, as the small bombs are made: the second's place is the first's."""
    archive = bytearray(zipped(("first", b"abc" * 99), ("other", b"abc" * 99)))
    second = archive.rindex(b"PK\x01\x02")
    archive[second + 42 : second + 46] = struct.pack("<L", 0)
    return bytes(archive)


def with_size(written: bytes, size_bytes: int, *, zip64: bool = False) -> bytes:
    """A zip of one file whose list gives it another size than it has; in the 64-bit field where `zip64`."""
    archive = bytearray(zipped(("a", written)))
    at = archive.index(b"PK\x01\x02")
    if not zip64:
        archive[at + 24 : at + 28] = struct.pack("<L", size_bytes)
        return bytes(archive)
    extra = struct.pack("<HHQ", 1, 8, size_bytes)
    archive[at + 24 : at + 28] = b"\xff\xff\xff\xff"
    archive[at + 30 : at + 32] = struct.pack("<H", len(extra))
    archive[at + 47 : at + 47] = extra
    end = archive.index(b"PK\x05\x06")
    archive[end + 12 : end + 16] = struct.pack("<L", end - at)
    return bytes(archive)


def with_long_list() -> bytes:
    """An end that promises a list of 4 GiB."""
    archive = bytearray(zipped(("a", b"a")))
    end = archive.index(b"PK\x05\x06")
    archive[end + 12 : end + 16] = struct.pack("<L", 0xFFFFFFF0)
    return bytes(archive)


def with_two_names() -> bytes:
    """A zip whose list says `good` and whose entry says `evil`."""
    archive = zipped(("good", b"abc"))
    return archive.replace(b"good", b"evil", 1)


def encrypted() -> bytes:
    archive = bytearray(zipped(("a", b"a")))
    archive[6] |= 1
    archive[archive.index(b"PK\x01\x02") + 8] |= 1
    return bytes(archive)


def long_header() -> bytes:
    """A tar whose extended header says that it has 8 GiB."""
    info = tar_member("./PaxHeaders/a", tarfile.XHDTYPE)
    info.size = 8 << 30
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def changed_tar(archive: bytes) -> bytes:
    """The second header's checksum broken."""
    second = archive.rindex(b"second.txt")
    return archive[:second] + b"X" + archive[second + 1 :]


NOT_HARMLESS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "zip: one folder up": ("ESCAPES", lambda: zipped(("../out", b"x"))),
    "zip: up within": ("ESCAPES", lambda: zipped(("a/../../out", b"x"))),
    "zip: absolute": ("ABSOLUTE_NAME", lambda: zipped(("/tmp/out", b"x"))),
    "zip: a link": ("LINK", lambda: zipped((zip_member("link", stat.S_IFLNK | 0o777), b"/etc/passwd"))),
    "zip: a link, then written through": (
        "LINK",
        lambda: zipped((zip_member("dir", stat.S_IFLNK | 0o777), b"/tmp"), ("dir/out", b"x")),
    ),
    "zip: a device": ("SPECIAL_FILE", lambda: zipped((zip_member("dev", stat.S_IFCHR | 0o666), b""))),
    "zip: a pipe": ("SPECIAL_FILE", lambda: zipped((zip_member("pipe", stat.S_IFIFO | 0o666), b""))),
    "zip: twice one name": ("DUPLICATE", lambda: zipped(("a", b"1"), ("a", b"2"))),
    "zip: twice but for case": ("DUPLICATE", lambda: zipped(("model.ONNX", b"1"), ("Model.onnx", b"2"))),
    "zip: a file that is a folder": ("DUPLICATE", lambda: zipped(("a", b"1"), ("a/b", b"2"))),
    "zip: a NUL in a name": ("BAD_NAME", lambda: renamed(zipped(("a_out", b"x")), b"a_out", b"a\0out")),
    "zip: a backslash": ("BAD_NAME", lambda: zipped(("..\\out", b"x"))),
    "zip: a drive": ("BAD_NAME", lambda: zipped(("C:out", b"x"))),
    "zip: a look-alike of ../": ("BAD_NAME", lambda: zipped(("․․／out", b"x"))),
    "zip: text turned round": ("BAD_NAME", lambda: zipped(("a\u202egpj.exe", b"x"))),
    "zip: a name without end": ("BAD_NAME", lambda: zipped(("a" * 300, b"x"))),
    "zip: 50 folders deep": ("BAD_NAME", lambda: zipped(("a/" * 50 + "b", b"x"))),
    "zip: a bomb": ("BOMB", lambda: zipped(("zeros", bytes(2 << 20)))),
    "zip: a bomb in many files": ("TOO_LARGE", lambda: zipped(*((f"f{n}", bytes(range(256)) * 4096) for n in range(5)))),
    "zip: one file too large": ("TOO_LARGE", lambda: zipped(("big", bytes((2 << 20) + 1)), packing=zipfile.ZIP_STORED)),
    "zip: too many files": ("TOO_MANY", lambda: zipped(*((f"f{n}", b"") for n in range(101)))),
    "zip: overlapping entries": ("OVERLAP", with_overlap),
    "zip: a size that is too small": ("TORN", lambda: with_size(b"abc" * 99, 2)),
    "zip: a size that is too large": ("SIZE_LIE", lambda: with_size(b"abc" * 99, 5000)),
    "zip: a 64-bit size that is too large": ("TOO_LARGE", lambda: with_size(b"abc", 1 << 62, zip64=True)),
    "zip: a list without end": ("TOO_MANY", with_long_list),
    "zip: two names for one entry": ("TORN", with_two_names),
    "zip: encrypted": ("ENCRYPTED", encrypted),
    "zip: packed by bzip2": ("PACKING", lambda: zipped(("a", b"a" * 99), packing=zipfile.ZIP_BZIP2)),
    "tar: one folder up": ("ESCAPES", lambda: tarred(("../out", b"x"))),
    "tar: absolute": ("ABSOLUTE_NAME", lambda: tarred(("/tmp/out", b"x"))),
    "tar: a link": ("LINK", lambda: tarred(tar_member("a", tarfile.SYMTYPE, "/etc/passwd"))),
    "tar: a hard link": ("LINK", lambda: tarred(("a", b"x"), tar_member("b", tarfile.LNKTYPE, "a"))),
    "tar: a link, then written through": ("LINK", lambda: tarred(tar_member("dir", tarfile.SYMTYPE, "/tmp"), ("dir/out", b"x"))),
    "tar: a device": ("SPECIAL_FILE", lambda: tarred(tar_member("dev", tarfile.CHRTYPE))),
    "tar: a pipe": ("SPECIAL_FILE", lambda: tarred(tar_member("pipe", tarfile.FIFOTYPE))),
    "tar: a sparse file": (
        "SPARSE",
        lambda: tarred(tar_member("holes", tarfile.REGTYPE, pax={"GNU.sparse.map": "0,1", "GNU.sparse.size": "9"})),
    ),
    "tar: an old sparse file": ("SPARSE", lambda: tarred(tar_member("holes", tarfile.GNUTYPE_SPARSE), format=tarfile.GNU_FORMAT)),
    "tar: a negative size": ("SIZE_LIE", lambda: tarred(tar_member("a", tarfile.REGTYPE, pax={"size": "-512"}))),
    "tar: a header without end": ("TOO_LARGE", long_header),
    "tar: twice one name": ("DUPLICATE", lambda: tarred(("a", b"1"), ("a", b"2"))),
    "tar: too many files": ("TOO_MANY", lambda: tarred(*((f"f{n}", b"") for n in range(101)))),
    "tar: torn in a file": ("TORN", lambda: tarred(("a", bytes(5000)))[:3000]),
    "tar: torn between two files": ("TORN", lambda: tarred(("a", b"x"), ("b", b"y"))[:1024]),
    "tar: a broken second header": ("TORN", lambda: changed_tar(tarred(("first.txt", b"1"), ("second.txt", b"2")))),
    "tar.gz: a bomb": ("BOMB", lambda: gzip.compress(tarred(("zeros", bytes(3 << 20))))),
    "tar.gz: torn": ("TORN", lambda: gzip.compress(tarred(("a", bytes(range(256)) * 40)))[:-30]),
    "tar.gz: a link": ("LINK", lambda: gzip.compress(tarred(tar_member("a", tarfile.SYMTYPE, "/etc/passwd")))),
    "text": ("TORN", lambda: b"hello"),
    "nothing": ("TORN", lambda: b""),
}


@pytest.mark.parametrize("case", NOT_HARMLESS)
def test_a_hostile_archive_is_refused_and_nothing_lies_outside_its_folder(case: str, tmp_path: Path) -> None:
    code, make = NOT_HARMLESS[case]
    archive, into = tmp_path / "archive", tmp_path / "deep" / "into"
    archive.write_bytes(make())
    into.mkdir(parents=True)

    with pytest.raises(ImportRefused) as refusal:
        extract_archive(archive, into, SMALL)

    assert refusal.value.code == f"ARCHIVE_{code}"
    assert refusal.value.message.isprintable()
    assert {path.name for path in tmp_path.rglob("*") if into not in path.parents} == {"archive", "deep", "into"}
    assert not any(path.is_symlink() or path.name == "out" for path in into.rglob("*"))


FILES = {"MAR-INF/MANIFEST.json": b"{}", "model.pt": random.Random(1).randbytes(1_300_000), "empty": b"", "späte/größe.txt": b"unicode"}


@pytest.mark.parametrize("kind", ["zip", "stored zip", "tar", "gnu tar", "tar.gz"])
def test_what_is_harmless_comes_out_as_it_was_packed(kind: str, tmp_path: Path) -> None:
    files = tuple(FILES.items())
    packed = {
        "zip": lambda: zipped(("späte/", b""), *files),
        "stored zip": lambda: zipped(*files, packing=zipfile.ZIP_STORED),
        "tar": lambda: tarred(tar_member("./", tarfile.DIRTYPE), tar_member("späte", tarfile.DIRTYPE), *files),
        "gnu tar": lambda: tarred(*files, format=tarfile.GNU_FORMAT),
        "tar.gz": lambda: gzip.compress(tarred(*files)),
    }[kind]()
    archive, into = tmp_path / "archive", tmp_path / "into"
    archive.write_bytes(packed)
    into.mkdir()

    names = extract_archive(archive, into)

    assert sorted(names) == sorted(FILES)
    assert {name: (into / name).read_bytes() for name in names} == FILES
    assert all(stat.S_IMODE((into / name).stat().st_mode) & 0o7111 == 0 for name in names)
    assert list(into.glob("tmp*")) == []


def test_a_zip_that_follows_other_bytes_is_read_as_zip_tools_read_it(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(b"PK\x03\x04" + bytes(500) + zipped(("a", b"1")))
    (tmp_path / "into").mkdir()

    assert extract_archive(tmp_path / "archive", tmp_path / "into") == ("a",)


def test_a_file_that_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped(("a/b", b"new")))
    (tmp_path / "into" / "a").mkdir(parents=True)
    (tmp_path / "into" / "a" / "b").write_bytes(b"old")

    with pytest.raises(ImportRefused, match="cannot be unpacked"):
        extract_archive(tmp_path / "archive", tmp_path / "into")

    assert (tmp_path / "into" / "a" / "b").read_bytes() == b"old"


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(zipped(("a/b", b"new")))
    (tmp_path / "into").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "into" / "a").symlink_to(tmp_path / "outside")

    with pytest.raises(ImportRefused, match="cannot be unpacked"):
        extract_archive(tmp_path / "archive", tmp_path / "into")

    assert list((tmp_path / "outside").iterdir()) == []


FEW = (("a", b"1" * 700), ("b/c", random.Random(2).randbytes(3000)), ("d", b""))


@settings(max_examples=150, deadline=None)
@given(archive=st.sampled_from([zipped(*FEW), tarred(*FEW), gzip.compress(tarred(*FEW), mtime=0)]), data=st.data())
def test_a_damaged_archive_is_refused_or_unpacked_within_its_folder(
    archive: bytes, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    broken = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "archive").write_bytes(broken[: data.draw(st.integers(0, len(broken)))] if data.draw(st.booleans()) else broken)
    (folder / "into").mkdir()

    # Whatever else is raised fails the test.
    with contextlib.suppress(ImportRefused):
        extract_archive(folder / "archive", folder / "into", SMALL)

    assert {path.name for path in folder.iterdir()} == {"archive", "into"}
    assert all(path.is_file() or path.is_dir() for path in (folder / "into").rglob("*"))
