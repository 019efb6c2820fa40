"""Fake quantisation (Jacob et al. 2018): a module computes with the numbers that its quantised graph will, and learns through the rounding.

The gradient of a rounding is taken as 1 (straight-through; Bengio et al. 2013). Scales of activations may be learnt (Esser et al. 2020,
"Learned Step Size Quantization"), those of weights follow the weights at every step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from towline.optimize.pairs import Pairs, Rounded, Weight
from towline.optimize.training.graph import Trainable


class RoundedActivation(nn.Module):
    """A tap: the tensor as its pair of QuantizeLinear and DequantizeLinear gives it."""

    def __init__(self, how: Rounded, *, learn: bool) -> None:
        super().__init__()
        self.how = how
        # Its logarithm: steps are shares of the scale, and none makes it negative.
        self.log_scale = nn.Parameter(torch.tensor(math.log(how.scale)), requires_grad=learn)

    @property
    def scale(self) -> float:
        return self.how.scale if not self.log_scale.requires_grad else float(self.log_scale.detach().exp())

    def forward(self, x: Tensor) -> Tensor:
        how = self.how
        if not self.log_scale.requires_grad:
            return torch.fake_quantize_per_tensor_affine(x, how.scale, how.zero_point, how.low, how.high)
        # Without this the scale's gradient, a sum over all elements, would dwarf those of weights (Esser et al. 2020, 2.2).
        share = 1 / math.sqrt(x.numel() / x.shape[0] * how.high)
        log_scale = self.log_scale * share + (self.log_scale * (1 - share)).detach()
        scale = log_scale.exp()
        steps = x / scale
        steps = steps + (steps.round() - steps).detach()
        return (torch.clamp(steps, how.low - how.zero_point, how.high - how.zero_point)) * scale


class RoundedWeight(nn.Module):
    """A parametrisation: the weight as its integers and scales give it. `axis` is that of the layer's own weight."""

    def __init__(self, how: Weight, axis: int | None) -> None:
        super().__init__()
        self.how, self.axis = how, axis

    def forward(self, weight: Tensor) -> Tensor:
        how = self.how
        with torch.no_grad():
            axes = [axis for axis in range(weight.ndim) if axis != self.axis]
            low, high = weight.amin(axes).clamp(max=0), weight.amax(axes).clamp(min=0)
            if how.zero_point is not None:
                high = torch.maximum(-low, high)
                low = -high
            scale = ((high - low) / (how.high - how.low)).clamp(min=torch.finfo(torch.float32).tiny)
            zero_point = (how.low - low / scale).round() if how.zero_point is None else torch.full_like(scale, how.zero_point)
        if self.axis is None:
            return torch.fake_quantize_per_tensor_affine(weight, scale, zero_point.int(), how.low, how.high)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero_point.int(), self.axis, how.low, how.high)


def round_as(module: Trainable, floats: Any, pairs: Pairs, *, learn: bool) -> dict[str, RoundedActivation]:
    """Make the module compute as `pairs` tell, `floats` being the graph (ModelProto) it was made of. The activations by `scale_name`."""
    nodes = {node.name: node for node in floats.graph.node}
    for one in pairs.weights:
        held_in, held = module.held[nodes[one.node].input[one.place]]
        axis = one.axis if one.axis is None or not held.transposed else 1 - one.axis
        for owner, attribute in _owners(module, getattr(module.get_submodule(held_in), held.attribute)):
            parametrize.register_parametrization(owner, attribute, RoundedWeight(one, axis))
    # What has one range before and behind an operator that only moves numbers (MaxPool, Reshape) must keep one, to be moved in eight bits.
    alike = {(one.scale, one.zero_point, one.low, one.high): RoundedActivation(one, learn=learn) for one in pairs.activations}
    made = {one.scale_name: alike[one.scale, one.zero_point, one.low, one.high] for one in pairs.activations}
    module.add_module("rounded", nn.ModuleList(alike.values()))
    module.taps = {**module.taps, **{one.tensor: made[one.scale_name] for one in pairs.activations}}
    return made


def stop_rounding(module: Trainable, pairs: Pairs) -> None:
    """The module as it was, with the floats that it has learnt."""
    for owner in list(module.modules()):
        if parametrize.is_parametrized(owner):
            for attribute in list(owner.parametrizations):
                parametrize.remove_parametrizations(owner, str(attribute), leave_parametrized=False)
    rounded = {one.tensor for one in pairs.activations}
    module.taps = {name: tap for name, tap in module.taps.items() if name not in rounded}
    del module.rounded


def _owners(module: nn.Module, weight: Tensor) -> Iterator[tuple[nn.Module, str]]:
    """Every place that holds this very Parameter; none where it is rounded already."""
    found = [(owner, name) for owner in module.modules() for name, one in owner.named_parameters(recurse=False) if one is weight]
    yield from found
