"""Tell which architecture weights are likely to belong to, from their names and shapes. Pure, without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from towline.convert import wording

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Guess:
    """`what` is for people: "resnet50, 1000 classes". `arch` is what `--arch` takes, empty where only the user's own code will do."""

    what: str
    arch: str = ""

    def command_hint(self, source: str = "FILE") -> str:
        """The exact command for weights of this architecture."""
        if self.arch:
            return f"Try: towline import {source} --name NAME --arch '{self.arch}'"
        return f"Give the code: towline import {source} --name NAME --arch model.py:Class"


def likely(shapes: Shapes) -> Guess | None:
    """The first architecture whose signs are there; None for what is not known."""
    for tell in (*_TELLERS, _sequence):
        try:
            guess = tell(shapes)
        except (IndexError, ValueError):
            # A name that is known, with a rank that no such layer has.
            continue
        if guess is not None:
            return guess
    return None


def _torchvision(name: str, shapes: Shapes, head: str) -> Guess:
    classes = shapes.get(head, (1000,))[0]
    settings = "" if classes == 1000 else f"(num_classes={classes})"
    return Guess(f"{name}, {classes} classes", f"torchvision:{name}{settings}")


def _count(shapes: Shapes, pattern: str) -> int:
    """How many different things the first group of `pattern` stands for."""
    compiled = re.compile(pattern)
    return len({found[1] for name in shapes if (found := compiled.match(name))})


_RESNETS: dict[tuple[bool, tuple[int, ...]], str] = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}


def _resnet(shapes: Shapes) -> Guess | None:
    if "layer1.0.conv1.weight" not in shapes or "fc.weight" not in shapes:
        return None
    blocks = tuple(_count(shapes, rf"layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
    deep = "layer1.0.conv3.weight" in shapes
    name = _RESNETS.get((deep, blocks), "")
    middle = shapes.get("layer1.0.conv2.weight", (0, 0))
    if deep and name in ("resnet50", "resnet101"):
        depth = name.removeprefix("resnet")
        if middle[:2] == (128, 128):
            name = f"wide_resnet{depth}_2"
        elif middle[0] != middle[1]:
            name = {"50": "resnext50_32x4d", "101": "resnext101_32x8d"}[depth]
    stem = shapes.get("conv1.weight", ())
    if not name or stem != (64, 3, 7, 7):
        return Guess(f"a residual network with {'-'.join(map(str, blocks))} blocks, {shapes['fc.weight'][0]} classes")
    return _torchvision(name, shapes, "fc.weight")


def _mobilenet(shapes: Shapes) -> Guess | None:
    if "features.18.0.weight" in shapes and "features.1.conv.0.0.weight" in shapes:
        return _torchvision("mobilenet_v2", shapes, "classifier.1.weight")
    if "classifier.3.weight" in shapes and "features.1.block.0.0.weight" in shapes:
        size = "large" if "features.16.0.weight" in shapes else "small"
        return _torchvision(f"mobilenet_v3_{size}", shapes, "classifier.3.weight")
    return None


def _vgg(shapes: Shapes) -> Guess | None:
    if shapes.get("classifier.0.weight", ())[1:] != (25088,):
        return None
    layers = sum(len(shape) == 4 for name, shape in shapes.items() if name.startswith("features."))
    name = {8: "vgg11", 10: "vgg13", 13: "vgg16", 16: "vgg19"}.get(layers)
    normed = "_bn" if any(name.endswith("running_mean") for name in shapes) else ""
    return _torchvision(name + normed, shapes, "classifier.6.weight") if name else None


_DENSENETS: dict[tuple[int, ...], str] = {(6, 12, 24, 16): "121", (6, 12, 32, 32): "169", (6, 12, 48, 32): "201", (6, 12, 36, 24): "161"}


def _densenet(shapes: Shapes) -> Guess | None:
    blocks = tuple(_count(shapes, rf"features\.denseblock{block}\.denselayer(\d+)\.") for block in (1, 2, 3, 4))
    name = _DENSENETS.get(blocks)
    return _torchvision(f"densenet{name}", shapes, "classifier.weight") if name else None


def _efficientnet(shapes: Shapes) -> Guess | None:
    if "_conv_stem.weight" in shapes:
        return Guess("an EfficientNet of the package efficientnet-pytorch")
    if "features.1.0.block.0.0.weight" in shapes and "features.8.0.weight" in shapes:
        name = {1280: "b0", 1408: "b2", 1536: "b3", 1792: "b4", 2048: "b5", 2304: "b6", 2560: "b7"}.get(shapes["features.8.0.weight"][0])
        if name == "b0" and _count(shapes, r"features\.1\.(\d+)\.") == 2:
            name = "b1"
        return _torchvision(f"efficientnet_{name}", shapes, "classifier.1.weight") if name else None
    return None


def _convnext(shapes: Shapes) -> Guess | None:
    if "features.1.0.layer_scale" not in shapes:
        return None
    wide, deep = shapes["features.1.0.layer_scale"][0], _count(shapes, r"features\.5\.(\d+)\.")
    name = {(96, 9): "tiny", (96, 27): "small", (128, 27): "base", (192, 27): "large"}.get((wide, deep))
    return _torchvision(f"convnext_{name}", shapes, "classifier.2.weight") if name else None


def _vit(shapes: Shapes) -> Guess | None:
    if "conv_proj.weight" in shapes and "encoder.layers.encoder_layer_0.ln_1.weight" in shapes:
        hidden, _, patch, _ = shapes["conv_proj.weight"]
        size = {768: "b", 1024: "l", 1280: "h"}.get(hidden)
        return _torchvision(f"vit_{size}_{patch}", shapes, "heads.head.weight") if size else Guess("a vision transformer of torchvision")
    if "patch_embed.proj.weight" in shapes and "blocks.0.attn.qkv.weight" in shapes:
        hidden, layers = shapes["patch_embed.proj.weight"][0], _count(shapes, r"blocks\.(\d+)\.")
        return Guess(f"a vision transformer of the package timm, {layers} layers of {hidden}")
    return None


# Where the first layers of other well-known networks have names of their own.
_SIGNS: Mapping[str, tuple[str, str]] = {
    "features.3.squeeze.weight": ("squeezenet1_1", "classifier.1.weight"),
    "Mixed_5b.branch1x1.conv.weight": ("inception_v3", "fc.weight"),
    "inception3a.branch1.conv.weight": ("googlenet", "fc.weight"),
    "stage2.0.branch1.0.weight": ("shufflenet_v2_x1_0", "fc.weight"),
    "layers.8.layers.0.weight": ("mnasnet1_0", "classifier.1.weight"),
}


def _signed(shapes: Shapes) -> Guess | None:
    if shapes.get("features.0.weight") == (64, 3, 11, 11):
        return _torchvision("alexnet", shapes, "classifier.6.weight")
    return next((_torchvision(name, shapes, head) for sign, (name, head) in _SIGNS.items() if sign in shapes), None)


# By what the names end in, because each library nests them differently.
_LANGUAGE = (
    (
        r"(?:.*\.)?embeddings\.word_embeddings\.weight$",
        r"(?:.*\.)?encoder\.layer\.(\d+)\.attention\.self\.query\.weight$",
        "a BERT-like encoder",
    ),
    (
        r"(?:.*\.)?embeddings\.word_embeddings\.weight$",
        r"(?:.*\.)?transformer\.layer\.(\d+)\.attention\.q_lin\.weight$",
        "a DistilBERT-like encoder",
    ),
    (r"(?:.*\.)?wte\.weight$", r"(?:.*\.)?h\.(\d+)\.attn\.c_attn\.weight$", "a GPT-2-like decoder"),
    (r"(?:.*\.)?shared\.weight$", r"(?:.*\.)?encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.q\.weight$", "a T5-like model"),
    (r"(?:.*\.)?embed_tokens\.weight$", r"(?:.*\.)?layers\.(\d+)\.self_attn\.q_proj\.weight$", "a Llama-like decoder"),
)


def _language(shapes: Shapes) -> Guess | None:
    for embedding, layer, what in _LANGUAGE:
        table = next((name for name in shapes if re.match(embedding, name)), "")
        layers = _count(shapes, layer)
        if table and layers and len(shapes[table]) == 2:
            words, hidden = shapes[table]
            return Guess(f"{what} of the package transformers, {layers} layers of {hidden}, {words} tokens")
    return None


def _encoder(shapes: Shapes) -> Guess | None:
    """torch.nn.TransformerEncoder, wherever it stands in the model."""
    pattern = r"((?:.*\.)?)layers\.0\.self_attn\.in_proj_weight$"
    found = next((match[1] for name in shapes if (match := re.match(pattern, name))), None)
    if found is None:
        return None
    layers = _count(shapes, re.escape(found) + r"layers\.(\d+)\.")
    return Guess(f"a transformer of torch.nn, {layers} layers of {shapes[found + 'layers.0.self_attn.in_proj_weight'][1]}")


def _sequence(shapes: Shapes) -> Guess | None:
    """What can be said of any network: its first and last weights."""
    weights = [(name, shape) for name, shape in shapes.items() if name.endswith("weight") and len(shape) > 1]
    if not weights:
        return None
    (first, start), (_, end) = weights[0], weights[-1]
    kind = {2: f"takes {start[-1]} features", 3: "is a 1-d convolution", 4: f"is a convolution over {start[1]} channels"}.get(len(start))
    if kind is None:
        return None
    return Guess(
        f"a network of {len(weights)} layers whose first, {wording.name(first.removesuffix('.weight'))}, {kind}; it ends in {end[0]} values"
    )


_TELLERS: tuple[Callable[[Shapes], Guess | None], ...] = (
    _resnet,
    _mobilenet,
    _vgg,
    _densenet,
    _efficientnet,
    _convnext,
    _vit,
    _signed,
    _language,
    _encoder,
)
