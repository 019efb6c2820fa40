"""The order of a search: what is known to pay first, then what follows from what was measured, then what nobody has thought of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from towline.app.optimizing.workshop import Workshop
from towline.core.errors import MissingExtra
from towline.optimize.base import Chain
from towline.optimize.plan import Situation, best_int8, first_chains, mixed, quantised, rescued, taught_chains, wants_sensitivity
from towline.optimize.sensitivity import Sensitivity


@dataclass
class Search:
    """One search. `wanted` is all that is tried, where given."""

    workshop: Workshop
    situation: Situation
    wanted: Sequence[Chain] = ()

    def __post_init__(self) -> None:
        self.guilty: list[Sensitivity] = []
        self.notes: list[str] = []

    def run(self) -> None:
        """Judge chain after chain. Raises OutOfTime; what was judged until then is the workshop's."""
        for chain in self.wanted or self._chains():
            if self.situation.may(chain):
                self.workshop.judge(chain)

    def _chains(self) -> Iterator[Chain]:
        tried = self.workshop.tried
        yield from first_chains(self.situation)
        if wants_sensitivity(tried):
            yield from self._until_one_fits(self._mixed())
        if self.situation.can_train:
            yield from rescued(tried, self.situation)
            yield from taught_chains(self.situation)
            yield from quantised(tried)
        yield from self._explored()

    def _mixed(self) -> Iterator[Chain]:
        """Static int8 with the guiltiest operators in float, from the settings that lost least."""
        best = best_int8(self.workshop.tried)
        if best is None:
            return
        for found in self.workshop.sensitivities(best):
            self.guilty.append(found)
        yield from mixed(best, self.guilty)

    def _until_one_fits(self, chains: Iterable[Chain]) -> Iterator[Chain]:
        """More operators in float are only slower."""
        for chain in chains:
            yield chain
            if self.workshop.tried[-1].fits:
                return

    def _explored(self) -> Iterator[Chain]:
        """Combinations that a sampler proposes, until it finds nothing better."""
        from towline.optimize.search import Explorer

        try:
            explorer = Explorer(self.situation)
        except MissingExtra as missing:
            self.notes.append(f"{missing.message} {missing.hint}")
            return
        for one in self.workshop.tried:
            explorer.learn(one)
        while (chain := explorer.propose()) is not None:
            if not self.situation.may(chain):
                continue
            yield chain
            explorer.learn(self.workshop.tried[-1])
