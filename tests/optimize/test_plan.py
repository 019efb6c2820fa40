"""What is tried next, and which of what was tried is kept."""

from __future__ import annotations

from towline.optimize.base import Chain, Pass
from towline.optimize.graph import Slim
from towline.optimize.plan import Tried, chosen, first_passes, mixed, wants_sensitivity
from towline.optimize.quantize import DynamicInt8, Int8
from towline.optimize.sensitivity import Sensitivity


def tried(how: Pass, *, fits: bool = True, speedup: float = 1.0, size: float = 1.0, sure: float | None = None) -> Tried:
    return Tried(Chain((how,)), fits, speedup, size, 0.0, "", speedup if sure is None else sure)


def test_what_is_slower_or_does_not_fit_is_never_chosen():
    assert (
        chosen([tried(Slim(), speedup=0.9), tried(Int8(), fits=False, speedup=3.0), tried(DynamicInt8(), speedup=0.5, size=0.25)]) is None
    )


def test_the_fastest_that_fits_is_chosen_and_of_equals_the_smaller():
    slim, small, quick = tried(Slim(), speedup=1.5, size=1.0), tried(Int8(), speedup=1.5, size=0.3), tried(DynamicInt8(), speedup=1.4)

    assert chosen([slim, small, quick]) is small


def test_a_gain_that_most_turns_do_not_show_is_none_unless_it_saves_space():
    assert chosen([tried(Slim(), speedup=1.3, sure=0.9)]) is None
    assert chosen([tried(Slim(), speedup=1.0, size=0.5, sure=0.9)]) is not None


def test_layers_are_looked_into_when_int8_is_fast_and_wrong_and_only_then():
    assert wants_sensitivity([tried(Int8(), fits=False, speedup=1.8)])
    assert not wants_sensitivity([tried(Int8(), fits=False, speedup=0.7)])
    assert not wants_sensitivity([tried(Int8(), fits=False, speedup=1.8), tried(Int8(per_channel=False), speedup=1.2)])
    assert not wants_sensitivity([tried(Slim())])


def test_the_guiltiest_go_back_to_float_first_a_few_at_a_time():
    guilty = [Sensitivity(f"op{place}", "Conv", db, 0.0) for place, db in enumerate((30.0, 5.0, 20.0, 40.0))]

    steps = mixed(Int8(calibration="entropy"), guilty)

    assert [one.floats for one in steps] == [("op1",), ("op1", "op2")]
    assert all(one.calibration == "entropy" for one in steps)


def test_a_cpu_without_the_instructions_gets_seven_bit_weights():
    assert all(one.reduce_range for one in first_passes("x avx2", has_data=True) if isinstance(one, Int8))
    assert not any(isinstance(one, Int8) for one in first_passes("x avx2", has_data=False))
