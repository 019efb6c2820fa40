"""The optimisers and schedules of torch.optim that a Training names, and the L1 penalty, which none of them has."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.optim import lr_scheduler

from towline.optimize.training.settings import Training

MOMENTUM = 0.9
# The step schedule: this many steps, each a tenth of the one before.
STAIRS = 3


def weights_of(module: nn.Module) -> Iterator[nn.Parameter]:
    """What penalties weigh: matrices and kernels, neither biases nor what norms scale by."""
    return (weight for weight in module.parameters() if weight.requires_grad and weight.ndim > 1)


def optimizer_for(module: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """`l2` is torch.optim's weight_decay: a term of the gradient, but of adamw, where it is decoupled (Loshchilov & Hutter 2019)."""
    weights = list(weights_of(module))
    others = [one for one in module.parameters() if one.requires_grad and one.ndim <= 1]
    groups = [{"params": weights, "weight_decay": settings.l2}, {"params": others, "weight_decay": 0.0}]
    rate = settings.rate
    match settings.optimizer:
        case "sgd":
            return torch.optim.SGD(groups, lr=rate)
        case "momentum":
            return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True)
        case "adagrad":
            return torch.optim.Adagrad(groups, lr=rate)
        case "adam":
            return torch.optim.Adam(groups, lr=rate)
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate)


def schedule_for(optimizer: torch.optim.Optimizer, settings: Training, steps: int) -> lr_scheduler.LRScheduler:
    """Stepped after every batch; `steps` is how many there will be."""
    match settings.schedule:
        case "constant":
            return lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case "step":
            return lr_scheduler.StepLR(optimizer, step_size=max(1, -(-steps // STAIRS)), gamma=0.1)
        case "cosine":
            return lr_scheduler.CosineAnnealingLR(optimizer, T_max=max(1, steps))


def shrink(module: nn.Module, by: float) -> None:
    """The step of an L1 penalty: every weight is drawn to zero by this much, and stays there. Soft thresholding, the proximal step of
    Daubechies et al. 2004: a penalty in the gradient would make weights small and none zero."""
    with torch.no_grad():
        for weight in weights_of(module):
            weight.copy_(nn.functional.softshrink(weight, by))
