"""Pictures changed a little before each time they are learnt from: each row its own way, by a generator that is given.

A teacher's answers stay those to the unchanged picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from towline.optimize.base import PassFailed
from towline.optimize.rows import Rows
from towline.optimize.training.batches import Batch
from towline.optimize.training.layout import layout_of
from towline.optimize.training.settings import Augmentation

# Of a side: how far a shift goes, and how much a crop or an erased square takes.
SHIFT = 0.1
CROP = 0.2
ERASE = 0.25
# Of the standard deviation of the batch.
NOISE = 0.1


@dataclass(frozen=True)
class Augmenter:
    """Changes input number `place` of each batch."""

    how: tuple[Augmentation, ...]
    place: int
    channels_last: bool

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        pictures = batch.inputs[self.place]
        pictures = pictures.permute(0, 3, 1, 2) if self.channels_last else pictures
        for name in self.how:
            pictures = _CHANGES[name](pictures, generator)
        pictures = (pictures.permute(0, 2, 3, 1) if self.channels_last else pictures).contiguous()
        return replace(batch, inputs=(*batch.inputs[: self.place], pictures, *batch.inputs[self.place + 1 :]))


def augmenter_for(how: tuple[Augmentation, ...], names: Sequence[str], rows: Rows) -> Augmenter:
    """Raises PassFailed unless exactly one input is pictures of floats, NCHW or NHWC."""
    found = [(place, layout_of(rows.inputs[name].shape)) for place, name in enumerate(names) if rows.inputs[name].dtype.kind == "f"]
    pictures = [(place, layout) for place, layout in found if layout is not None]
    if len(pictures) != 1:
        shapes = ", ".join(f"{name} {rows.inputs[name].dtype}{list(rows.inputs[name].shape)}" for name in names)
        raise PassFailed(
            f"{', '.join(how)} changes pictures, one float input of [N, channels, height, width] or [N, height, width, channels]: "
            f"there is {shapes}.",
            hint="Train without augmentation.",
        )
    return Augmenter(how, pictures[0][0], pictures[0][1] == "NHWC")


def shift(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Moved by whole pixels along both axes; what comes in repeats the border."""
    rows, _, height, width = pictures.shape
    down, right = (_whole(rows, max(1, round(SHIFT * side)), generator) for side in (height, width))
    from_y = (torch.arange(height) - down[:, None]).clamp(0, height - 1)
    from_x = (torch.arange(width) - right[:, None]).clamp(0, width - 1)
    return pictures[torch.arange(rows)[:, None, None], :, from_y[:, :, None], from_x[:, None, :]].permute(0, 3, 1, 2)


def flip(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Every second one, left to right."""
    mirrored = torch.rand(len(pictures), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], pictures.flip(3), pictures)


def crop(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A part of it, drawn to its whole size."""
    scale = 1 - CROP * torch.rand(len(pictures), generator=generator)
    offset = (torch.rand(len(pictures), 2, generator=generator) * 2 - 1) * (1 - scale)[:, None]
    maps = torch.zeros(len(pictures), 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = scale
    maps[:, :, 2] = offset
    grid = F.affine_grid(maps.to(pictures.dtype), list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def noise(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian."""
    return pictures + NOISE * pictures.std() * torch.randn(pictures.shape, generator=generator, dtype=pictures.dtype)


def erase(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """A rectangle of it filled with its mean (Zhong et al. 2020, "Random Erasing Data Augmentation")."""
    rows, _, height, width = pictures.shape
    inside = torch.ones(rows, height, width, dtype=torch.bool)
    for axis, side in ((1, height), (2, width)):
        extent = 1 + (torch.rand(rows, generator=generator) * ERASE * side).long()
        start = (torch.rand(rows, generator=generator) * (side - extent + 1)).long()
        along = torch.arange(side)
        band = (along >= start[:, None]) & (along < (start + extent)[:, None])
        inside &= band[:, :, None] if axis == 1 else band[:, None, :]
    return torch.where(inside[:, None], pictures.mean(dim=(1, 2, 3), keepdim=True), pictures)


def _whole(rows: int, most: int, generator: torch.Generator) -> Tensor:
    return torch.randint(-most, most + 1, (rows,), generator=generator)


_CHANGES = {"shift": shift, "flip": flip, "crop": crop, "noise": noise, "erase": erase}
