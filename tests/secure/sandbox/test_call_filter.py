"""The filter on calls, run by a small machine of our own: on both architectures, whichever this is."""

from __future__ import annotations

import errno

import pytest

from towline.secure.sandbox.seccomp import instructions

X86, ARM = ("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)
ALLOWED, KILLED = 0x7FFF0000, 0x80000000
REFUSED, UNKNOWN = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS


def verdict(machine: str, architecture: int, number: int, first: int = 0, *, marking: bool = True) -> int:
    """What the kernel would do with this call."""
    program, loaded, at = list(instructions(machine, marking=marking)), 0, 0
    while True:
        code, then, otherwise, value = program[at]
        at += 1
        if code == 0x20:
            loaded = {0: number, 4: architecture, 16: first}[value]
        elif code == 0x06:
            return value
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[code]
            at += then if holds else otherwise


# socket, ptrace, mount, bpf, keyctl, unshare, io_uring_setup, open_by_handle_at.
@pytest.mark.parametrize(
    ("machine", "numbers"),
    [(X86, (41, 101, 165, 321, 250, 272, 425, 304)), (ARM, (198, 117, 40, 280, 219, 97, 425, 265))],
    ids=["x86_64", "aarch64"],
)
def test_what_leads_out_is_refused(machine: tuple[str, int], numbers: tuple[int, ...]) -> None:
    assert {verdict(*machine, number) for number in numbers} == {REFUSED}


# read, write, mmap, socketpair, futex.
@pytest.mark.parametrize(("machine", "numbers"), [(X86, (0, 1, 9, 53, 202)), (ARM, (63, 64, 222, 199, 98))], ids=["x86_64", "aarch64"])
def test_what_every_program_does_is_allowed(machine: tuple[str, int], numbers: tuple[int, ...]) -> None:
    assert {verdict(*machine, number) for number in numbers} == {ALLOWED}


@pytest.mark.parametrize(("machine", "clone"), [(X86, 56), (ARM, 220)], ids=["x86_64", "aarch64"])
def test_a_child_may_be_made_and_a_namespace_may_not(machine: tuple[str, int], clone: int) -> None:
    thread, child, user_namespace = 0x3D0F00, 17, 0x10000000 | 17

    assert [verdict(*machine, clone, flags) for flags in (thread, child, user_namespace)] == [ALLOWED, ALLOWED, REFUSED]
    # clone3 says what it wants where no filter looks.
    assert verdict(*machine, 435) == UNKNOWN


@pytest.mark.parametrize(("machine", "fchmod", "utimensat"), [(X86, 91, 280), (ARM, 52, 88)], ids=["x86_64", "aarch64"])
def test_modes_and_times_stay_where_files_are_not_mounted_read_only(machine: tuple[str, int], fchmod: int, utimensat: int) -> None:
    assert {verdict(*machine, number, marking=False) for number in (fchmod, utimensat)} == {REFUSED}
    assert {verdict(*machine, number, marking=True) for number in (fchmod, utimensat)} == {ALLOWED}


def test_the_same_calls_under_other_numbers_are_no_way_around() -> None:
    # Of 32-bit programs, and of x32.
    assert verdict("x86_64", 0x40000003, 359) == KILLED
    assert verdict(*X86, 0x40000000 | 41) == REFUSED
