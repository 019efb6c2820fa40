"""Gates on weights that learn to shut: the hard concrete distribution of Louizos et al. 2018, by which a count of weights has a gradient.

    z = clamp(s (high - low) + low, 0, 1),   s = sigmoid((log u - log(1 - u) + a) / heat),   u uniform in (0, 1)
    P(z > 0) = sigmoid(a - heat log(-low / high))
with a learnt per weight, heat = 2/3, low = -0.1, high = 1.1 as in the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from towline.optimize.training.batches import Batch, names_of
from towline.optimize.training.losses import Loss

if TYPE_CHECKING:
    from towline.optimize.rows import Rows
    from towline.optimize.train import Scope

HEAT, LOW, HIGH = 2 / 3, -0.1, 1.1
# Where gates start, at most this far from half open: weights that were trained already tell by their size which matter.
START = 3.0
# Adam moves a parameter by about its rate, whatever the gradient; a gate must go much further than a weight does.
SPEED = 100.0
# Of all gates that should be shut and are not.
PENALTY = 10.0


class Gated(nn.Module):
    """A module, some weights of which are multiplied by gates: drawn at random while it trains, at their likeliest otherwise."""

    def __init__(self, module: nn.Module, weights: Sequence[nn.Parameter], rows: Rows, share: float, scope: Scope) -> None:
        """`share` (0 to 1) of the gates, of all or of each layer's, start below half open: those of the smallest weights."""
        super().__init__()
        self.module, self.inputs = module, names_of(module, rows)
        names = {id(weight): name for name, weight in module.named_parameters()}
        self._names = [names[id(weight)] for weight in weights]
        sizes = [weight.detach().abs() for weight in weights]
        whole = torch.cat([one.flatten() for one in sizes])
        self.gates = nn.ParameterList(_start(one, one.flatten() if scope == "layer" else whole, share) for one in sizes)

    def forward(self, *inputs: Tensor) -> Tensor:
        parameters = dict(self.module.named_parameters())
        gated = {name: parameters[name] * self._drawn(gate) for name, gate in zip(self._names, self.gates, strict=True)}
        logits: Tensor = functional_call(self.module, gated, inputs)
        return logits

    def open(self) -> list[Tensor]:
        """Per weight, how likely its gate is not shut."""
        return [torch.sigmoid(SPEED * gate - HEAT * math.log(-LOW / HIGH)) for gate in self.gates]

    def _drawn(self, gate: Tensor) -> Tensor:
        if self.training:
            chance = torch.rand_like(gate).clamp(1e-6, 1 - 1e-6)
            shape = torch.sigmoid((chance.logit() + SPEED * gate) / HEAT)
        else:
            shape = torch.sigmoid(SPEED * gate)
        return (shape * (HIGH - LOW) + LOW).clamp(0, 1)


class GatedLoss:
    """A loss, and a penalty on what share of the gates, of all or of each layer's, is open beyond `kept` (0 to 1)."""

    def __init__(self, loss: Loss, gated: Gated, kept: float, scope: Scope) -> None:
        self._loss, self._gated, self._kept, self._scope = loss, gated, kept, scope
        self.labelled_only = getattr(loss, "labelled_only", False)

    def __repr__(self) -> str:
        return f"GatedLoss({self._loss!r}, {self._kept}, {self._scope})"

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        value = self._loss(logits, batch)
        if not self._gated.training:
            return value
        gates = self._gated.open()
        parts = gates if self._scope == "layer" else [torch.cat([one.flatten() for one in gates])]
        return value + PENALTY * torch.stack([(part.mean() - self._kept).clamp(min=0) for part in parts]).mean()


def _start(sizes: Tensor, among: Tensor, share: float) -> Tensor:
    middle = among.kthvalue(max(1, round(share * len(among)))).values.clamp(min=torch.finfo(among.dtype).tiny)
    return (START * (sizes / middle).log()).clamp(-START, START) / SPEED
