"""What is tried next, and which of what was tried is kept."""

from __future__ import annotations

import math
from dataclasses import replace

from towline.optimize.base import Chain, Pass
from towline.optimize.distill import Distill
from towline.optimize.equalise import Equalise
from towline.optimize.graph import Slim
from towline.optimize.plan import (
    Situation,
    Tried,
    best_int8,
    chosen,
    first_chains,
    front,
    known_names,
    mixed,
    quantised,
    rescued,
    taught_chains,
    wants_sensitivity,
)
from towline.optimize.prune import Prune
from towline.optimize.qat import Qat
from towline.optimize.quantize import DynamicInt8, Int8
from towline.optimize.rounding import Round
from towline.optimize.sensitivity import Loss, Sensitivity, guiltiest
from towline.optimize.training.settings import Training

BARE = Situation("x avx512-vnni")
TAUGHT = Situation("x avx512-vnni", Training(epochs=1), (Distill(),))


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

    steps = mixed(Chain((Equalise(), Int8(calibration="entropy"))), guilty)

    assert [one.last.floats for one in steps] == [("op1",), ("op1", "op2")]
    assert all(one.passes[:-1] == (Equalise(),) and one.last.calibration == "entropy" for one in steps)


def test_a_cpu_without_the_instructions_gets_seven_bit_weights():
    for cpu, narrow in (("x avx2", True), ("x avx2 avx512-vnni", False)):
        static = [one.last for one in first_chains(Situation(cpu)) if isinstance(one.last, Int8)]
        assert {one.reduce_range for one in static} == {narrow}


def test_what_comes_as_near_to_the_fastest_as_noise_is_chosen_by_what_it_loses():
    fast, right = (
        Tried(Chain((Int8(),)), True, 2.04, 0.3, 0.004, "", 2.0),
        Tried(Chain((Int8(calibration="entropy"),)), True, 2.0, 0.3, 0.0, "", 1.9),
    )

    assert chosen([fast, right]) is chosen([right, fast]) is right


def test_nothing_is_trained_without_rows_and_pruning_and_students_take_turns_with_them():
    assert taught_chains(BARE) == ()
    assert [one.name for one in taught_chains(TAUGHT)][:3] == [Prune.name, Distill.name, Prune.name]


def test_int8_is_trained_for_only_where_none_fits():
    wrong, right = tried(Int8(), fits=False, speedup=1.8), tried(Int8(calibration="entropy"), speedup=1.7)

    assert next([type(one) for one in chain.passes] for chain in rescued([wrong], TAUGHT)) == [Int8, Qat]
    assert rescued([wrong, right], TAUGHT) == rescued([wrong], BARE) == ()


def test_what_was_trained_and_is_worth_it_is_quantised_as_the_version_lost_least():
    pruned, slow = tried(Prune(), speedup=3.0), tried(Prune(ratio=0.25), speedup=0.9)
    best = Int8(calibration="entropy")
    static = Tried(Chain((best,)), True, 1.5, 0.3, 0.0, "", 1.5), Tried(Chain((Int8(),)), True, 1.5, 0.3, 0.003, "", 1.5)

    assert best_int8(static) == Chain((best,))
    assert quantised([*static, pruned, slow]) == (Chain((Prune(), best)),)


def test_the_front_has_what_nothing_else_beats_in_both():
    slim = Tried(Chain((Slim(),)), True, 1.1, 1.0, 0.0)
    good, beaten = Tried(Chain((Int8(),)), True, 2.0, 0.3, 0.01), Tried(Chain((DynamicInt8(),)), True, 0.5, 0.3, 0.02)
    failed = Tried(Chain((Prune(),)), False, 0.0, 0.0, 0.0, "It failed.")

    assert front([beaten, good, failed, slim]) == (slim, good)


def test_only_the_passes_that_were_named_are_used_and_some_only_where_they_are():
    named = replace(TAUGHT, only=frozenset({"int8", "sparse"}))

    assert named.may(Chain((Int8(),)))
    assert not named.may(Chain((Prune(), Int8())))
    assert "sparse" in {one.name for one in taught_chains(named)}
    assert "sparse" not in {one.name for one in taught_chains(TAUGHT)}
    assert "fix-shape" in {one.name for one in first_chains(replace(BARE, only=frozenset({"fix-shape"})))}
    assert "fix-shape" not in {one.name for one in first_chains(BARE)}, "it takes less than the version did"


def test_of_two_as_guilty_the_one_that_costs_less_stays_in_float_first():
    guilty = [
        Sensitivity(name, "Conv", db, 0.0, cost) for name, db, cost in (("wide", 20.0, 100.0), ("narrow", 20.0, 1.0), ("mute", 60.0, 1.0))
    ]

    assert [one.last.floats for one in mixed(Chain((Int8(),)), guilty)] == [("narrow",), ("narrow", "wide")]


def test_what_labelled_rows_surely_lose_counts_as_much_as_noise_and_what_chance_may_do_nothing():
    def lost(name: str, db: float, low: float) -> Sensitivity:
        return Sensitivity(name, "Conv", db, 0.0, 1.0, Loss("accuracy", 0.02, low, 0.05, 200))

    noisy, wrong, chance = lost("noisy", 10.0, 0.0), lost("wrong", 30.0, 0.01), lost("chance", 30.0, -0.01)

    assert [one.operator for one in guiltiest([chance, noisy, wrong])] == ["wrong", "noisy", "chance"]
    assert [one.operator for one in guiltiest([replace(chance, loss=None), noisy])] == ["noisy", "chance"]


def test_an_operator_that_drowns_the_answers_does_not_hide_the_others():
    found = [Sensitivity(name, "Conv", db, 0.0) for name, db in (("loud", -math.inf), ("mute", math.inf), ("some", 20.0), ("much", 5.0))]

    assert [one.operator for one in guiltiest(found)] == ["loud", "much", "some", "mute"]


def test_weights_are_rounded_to_as_many_bits_as_the_cpu_multiplies():
    for cpu, bits in (("x avx2", 7), ("x avx2 avx512-vnni", 8)):
        chains = [one.passes for one in first_chains(Situation(cpu)) if any(isinstance(each, Round) for each in one.passes)]
        assert chains == [(Equalise(), Round(bits=bits), Int8(reduce_range=bits == 7))]


def test_every_pass_that_is_planned_can_be_named():
    planned = {"slim", "int8", "equalise", "dynamic int8", "float16", "prune", "distill", "qat", "sparse", "offline", "fix-shape"}
    assert planned <= set(known_names())
