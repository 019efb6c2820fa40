"""Train the demo's model: a small CNN on 1,597 of scikit-learn's 1,797 handwritten digits; the other 200 ship beside it.

Run by `make digits`, in an environment of its own (train_digits.requirements.txt). One thread and a fixed seed: the same files on the
same kind of CPU. The split is stratified: 20 digits of each class are held out, chosen by SEED, and never seen in training.
The images are the test part of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI, CC BY 4.0.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

SEED = 7
HELD_OUT_PER_CLASS = 20
EPOCHS = 60
BATCH = 64
MAX_MODEL_BYTES = 300_000
ASSETS = Path(__file__).resolve().parents[1] / "src" / "towline" / "app" / "demo" / "data"
ATTRIBUTION = {
    "what": "200 handwritten digits, 20 of each class: 8 rows of 8 pixels from 0 (paper) to 16 (ink). The demo's model never saw them.",
    "source": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, doi:10.24432/C50P49",
    "license": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "changes": "A subset of the test part, as shipped by scikit-learn (load_digits), in another file format.",
}


class DigitNet(nn.Module):
    """[N, 1, 8, 8] pixels from 0 to 1 -> [N, 10] probabilities (log-probabilities while training)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, padding=1)
        self.third = nn.Conv2d(32, 64, 3, padding=1)
        self.hidden = nn.Linear(64 * 2 * 2, 64)
        self.scores = nn.Linear(64, 10)

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.first(image))
        x = functional.max_pool2d(functional.relu(self.second(x)), 2)
        x = functional.max_pool2d(functional.relu(self.third(x)), 2)
        x = functional.dropout(torch.flatten(x, 1), 0.3, self.training)
        return self.scores(functional.relu(self.hidden(x)))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.logits(image), dim=1)


def split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(training, held out) positions; the held-out ones in random order, HELD_OUT_PER_CLASS of each class."""
    random = np.random.default_rng(SEED)
    held_out = np.concatenate([random.permutation(np.flatnonzero(labels == digit))[:HELD_OUT_PER_CLASS] for digit in range(10)])
    held_out = random.permutation(held_out)
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def shifted(images: torch.Tensor) -> torch.Tensor:
    """The images moved by up to one pixel each way: the only augmentation, since 8x8 leaves no room for more."""
    rows, columns = (int(torch.randint(0, 3, ())) for _ in range(2))
    return functional.pad(images, (1, 1, 1, 1))[:, :, rows : rows + 8, columns : columns + 8]


def train(images: torch.Tensor, labels: torch.Tensor) -> DigitNet:
    model = DigitNet()
    steps = EPOCHS * (len(images) // BATCH + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(images)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model.logits(shifted(images[chosen])), labels[chosen], label_smoothing=0.05).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: DigitNet, path: Path) -> None:
    with warnings.catch_warnings():
        # The TorchScript exporter is the one that needs no further packages; it says that it is the old one.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            model,
            (torch.zeros(1, 1, 8, 8),),
            str(path),
            input_names=["image"],
            output_names=["scores"],
            dynamic_axes={"image": {0: "batch"}, "scores": {0: "batch"}},
            opset_version=17,
            dynamo=False,
        )
    graph = onnx.load(path)
    graph.doc_string = "Handwritten digits 0-9 from 8x8 pixels (0..1). Trained by scripts/train_digits.py."
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, path)


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    digits = load_digits()
    pixels, labels = digits.images.astype(np.uint8), digits.target
    training, held_out = split(labels)
    images = torch.tensor(pixels, dtype=torch.float32).unsqueeze(1) / 16
    model = train(images[training], torch.tensor(labels[training]))

    ASSETS.mkdir(parents=True, exist_ok=True)
    path = ASSETS / "digits.onnx"
    export(model, path)
    (ASSETS / "labels.txt").write_text("".join(f"{digit}\n" for digit in range(10)))
    held = {**ATTRIBUTION, "labels": labels[held_out].tolist(), "images": pixels[held_out].reshape(-1, 64).tolist()}
    (ASSETS / "digits_200.json").write_text(json.dumps(held, separators=(",", ":")).replace("],[", "],\n[") + "\n")

    scores = onnxruntime.InferenceSession(str(path)).run(["scores"], {"image": images[held_out].numpy()})[0]
    right = int((scores.argmax(1) == labels[held_out]).sum())
    size = path.stat().st_size
    print(f"{path.name}: {size:,} bytes, {sum(p.numel() for p in model.parameters()):,} parameters")
    print(f"trained on {len(training):,} digits; {right} of the {len(held_out)} it has never seen are right ({right / len(held_out):.1%})")
    if size > MAX_MODEL_BYTES or right < 0.97 * len(held_out):
        raise SystemExit(f"Not good enough to ship: at most {MAX_MODEL_BYTES:,} bytes and at least 97 % were expected.")


if __name__ == "__main__":
    main()
