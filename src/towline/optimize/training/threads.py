"""How many threads a training uses: all where a step is worth sharing, else one, which is quicker by far when others work here too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from towline.optimize.training.batches import Batch

# Of one step: about 20 ms of one core. Threads meet after every operator, which for less takes longer than the operator.
WORTH_SHARING = 1e9
# Forward, and twice as much back.
PASSES = 3


@contextmanager
def threads_for(module: nn.Module, row: Batch, size: int) -> Iterator[None]:
    """As many as batches of `size` such rows are worth. Told by the work and not by the clock: equal trainings use equal threads, on
    which the last bits of a sum depend."""
    before = torch.get_num_threads()
    if PASSES * size * _flops(module, row.inputs) < WORTH_SHARING:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _flops(module: nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    """Additions and multiplications of matrices and kernels for one row."""
    trained = module.training
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        module(*inputs)
    module.train(trained)
    return int(counted.get_total_flops())
