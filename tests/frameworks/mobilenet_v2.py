"""MobileNetV2 (Sandler et al. 2018) with the parameter names of torchvision, so that its weights load. Imported where torch is."""

from __future__ import annotations

import torch
from torch import nn

# expansion, channels, repeats, stride
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def _unit(inward: int, outward: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inward, outward, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outward), nn.ReLU6())


class _Block(nn.Module):
    def __init__(self, inward: int, outward: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inward * expansion
        self.adds = stride == 1 and inward == outward
        layers = [_unit(inward, hidden, kernel=1)] if expansion != 1 else []
        layers += [_unit(hidden, hidden, stride=stride, groups=hidden), nn.Conv2d(hidden, outward, 1, bias=False), nn.BatchNorm2d(outward)]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNetV2(nn.Module):
    """float32 [N, 3, 224, 224] -> logits [N, 1000]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_unit(3, 32, stride=2)]
        inward = 32
        for expansion, channels, repeats, stride in _STAGES:
            for place in range(repeats):
                layers.append(_Block(inward, channels, stride if place == 0 else 1, expansion))
                inward = channels
        layers.append(_unit(inward, 1280, kernel=1))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean([2, 3]))
