"""Small networks of PyTorch, each with one property worth importing. Imported where torch is; given as --arch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class Mlp(nn.Module):
    """float32 [N, 10] -> [N, 4]."""

    def __init__(self, width: int = 16, num_classes: int = 4) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, width), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(width, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).softmax(-1)


class Cnn(nn.Module):
    """pixels float32 [N, 3, any, any] -> {"scores": [N, 5], "features": [N, 8]}."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 5)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.features(pixels).mean((2, 3))
        return {"scores": self.head(pooled), "features": pooled}


class Encoder(nn.Module):
    """token ids [N, T] -> [N, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embedding(ids)).mean(1))


class Step(NamedTuple):
    y: torch.Tensor
    state: tuple[torch.Tensor, torch.Tensor]


class Recurrent(nn.Module):
    """One step of an LSTM whose state goes in and comes out."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(6, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]) -> Step:
        h, c = self.cell(x, state)
        return Step(self.head(h), (h, c))


class Remembering(nn.Module):
    """Keeps its state on itself: must be refused."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.state = torch.zeros(1, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.state = self.state * 0.5 + self.layer(x).mean(0, keepdim=True)
        return x + self.state


class Noisy(nn.Module):
    """Draws at random in inference: must be refused."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.layer(x), 0.5, training=True)


class Spectrum(nn.Module):
    """Of the two exporters only the one by way of torch.export knows the operator."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(self.layer(x)).abs()


class Gamma(nn.Module):
    """An operator that ONNX has not: only PyTorch itself can run it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.lgamma(self.layer(x).abs() + 1)


class Branching(nn.Module):
    """Which way it goes depends on the values: one run of it shows half of it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layer(x)
        if y.sum() > 0:
            return y * 2
        return y - 1


class Worded(nn.Module):
    """Answers with text beside its tensor: must be refused."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
        return self.layer(x), "linear"
