"""A CPU's kind is its vendor, family, model and the instructions that change rounding."""

from __future__ import annotations

from towline.core.cpu import cpu_kind, kind_from

INTEL = """processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 85
model name\t: Intel(R) Xeon(R)
flags\t\t: fpu avx avx2 avx512f avx512_vnni

processor\t: 1
vendor_id\t: Other
"""
ARM = "processor : 0\nFeatures : fp asimd asimddp i8mm\nCPU implementer : 0x41\nCPU part : 0xd4f\n"


def test_the_first_processor_tells_the_kind():
    assert kind_from(INTEL, "x86_64") == "GenuineIntel-6-85 avx2 avx512 avx512-vnni"
    assert kind_from(ARM, "aarch64") == "0x41-0xd4f dotprod i8mm"


def test_a_machine_that_tells_nothing_still_has_a_kind():
    assert kind_from("", "riscv64") == "riscv64"
    assert kind_from("", "") == "unknown"


def test_this_machine_has_one_kind():
    assert cpu_kind() == cpu_kind() != ""
