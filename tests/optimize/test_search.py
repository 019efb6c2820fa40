"""A sampler proposes what nobody has planned, the same for equal seeds, and ends when it finds nothing better."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from towline.optimize.base import Chain
from towline.optimize.graph import Slim
from towline.optimize.plan import Situation, Tried, first_chains, front
from towline.optimize.prune import Prune
from towline.optimize.quantize import Int8
from towline.optimize.search import MAX_PROPOSALS, PATIENCE, Explorer, settings_of_chain
from towline.optimize.training.settings import Training

TAUGHT = Situation("x avx512-vnni", Training(epochs=1), seed=3)
BARE = Situation("x avx512-vnni")


def came_of(chain: Chain) -> Tried:
    """A world in which pruning buys speed with accuracy, and int8 buys some of both."""
    speed, drop = 1.0, 0.0
    for one in chain.passes:
        if isinstance(one, Prune):
            speed, drop = speed / (1.01 - one.ratio), drop + one.ratio**4 / 20
        if isinstance(one, Int8):
            speed, drop = speed * 2, drop + (0.001 if one.calibration == "percentile" else 0.003)
    return Tried(chain, drop <= 0.01, speed, 0.5, drop, speedup_sure=speed)


def searched(situation: Situation, judge: Callable[[Chain], Tried] = came_of) -> list[Tried]:
    explorer = Explorer(situation)
    found = [judge(chain) for chain in first_chains(situation)]
    for one in found:
        explorer.learn(one)
    while (chain := explorer.propose()) is not None:
        found.append(judge(chain))
        explorer.learn(found[-1])
    return found


def test_equal_seeds_propose_the_same_and_others_do_not():
    proposed = [[one.tried for one in searched(Situation(TAUGHT.cpu, TAUGHT.training, seed=seed))] for seed in (1, 1, 2)]

    assert proposed[0] == proposed[1]
    assert proposed[0] != proposed[2]


def test_nothing_is_proposed_twice_and_nothing_that_was_tried():
    chains = [one.tried for one in searched(TAUGHT)]

    assert len(chains) == len(set(chains))
    assert len(chains) <= len(first_chains(TAUGHT)) + MAX_PROPOSALS


def test_it_finds_what_the_plan_did_not_have():
    found = searched(TAUGHT)
    planned = front(found[: len(first_chains(TAUGHT))])

    assert max(one.speedup for one in found if one.fits) > max(one.speedup for one in planned)


def test_it_ends_when_nothing_better_comes():
    found = searched(BARE, lambda chain: Tried(chain, True, 1.0, 1.0, 0.0))

    assert len(found) - len(first_chains(BARE)) <= PATIENCE


def test_a_chain_that_failed_is_learned_from_without_harm():
    assert searched(TAUGHT, lambda chain: Tried(chain, False, 0.0, 0.0, 0.0, "It failed."))


@pytest.mark.parametrize(
    "chain",
    [
        Chain((Prune(ratio=0.5, training=Training(epochs=1)), TAUGHT.int8)),
        Chain((TAUGHT.int8,)),
        Chain((Prune(ratio=0.3, training=Training(epochs=1)),)),
    ],
)
def test_choices_and_chains_mean_each_other(chain: Chain):
    choices = settings_of_chain(chain, TAUGHT)

    assert choices is not None
    assert choices["int8"] == any(isinstance(one, Int8) for one in chain.passes)


@pytest.mark.parametrize("chain", [Chain((Slim(),)), Chain((Int8(floats=("a",)),)), Chain((TAUGHT.int8, TAUGHT.int8))])
def test_what_no_choices_give_is_outside(chain: Chain):
    assert settings_of_chain(chain, TAUGHT) is None


def test_without_rows_to_train_on_nothing_is_trained():
    assert {one.name for found in searched(BARE) for one in found.tried.passes if one.environment} == set()
