"""Whose weights these are is told from their names and shapes."""

from __future__ import annotations

import pytest

from towline.convert.torch.architectures import likely

BOTTLENECKS = {
    f"layer{stage}.{block}.conv{place}.weight": (64, 64, 3, 3)
    for stage, count in enumerate((3, 4, 6, 3), 1)
    for block in range(count)
    for place in (1, 2, 3)
}
RESNET50 = {"conv1.weight": (64, 3, 7, 7), **BOTTLENECKS, "fc.weight": (1000, 2048)}
BASICS = {f"layer{stage}.{block}.conv{place}.weight": (64, 64, 3, 3) for stage in (1, 2, 3, 4) for block in range(2) for place in (1, 2)}
BERT = {
    "bert.embeddings.word_embeddings.weight": (30522, 768),
    **{f"bert.encoder.layer.{layer}.attention.self.query.weight": (768, 768) for layer in range(12)},
}
VIT = {"conv_proj.weight": (768, 3, 16, 16), "encoder.layers.encoder_layer_0.ln_1.weight": (768,), "heads.head.weight": (1000, 768)}
MOBILENET = {
    "features.0.0.weight": (32, 3, 3, 3),
    "features.1.conv.0.0.weight": (32, 1, 3, 3),
    "features.18.0.weight": (1280, 320, 1, 1),
    "classifier.1.weight": (1000, 1280),
}


@pytest.mark.parametrize(
    ("shapes", "what", "arch"),
    [
        (RESNET50, "resnet50, 1000 classes", "torchvision:resnet50"),
        (RESNET50 | {"fc.weight": (7, 2048)}, "resnet50, 7 classes", "torchvision:resnet50(num_classes=7)"),
        (RESNET50 | {"layer1.0.conv2.weight": (128, 128, 3, 3)}, "wide_resnet50_2, 1000 classes", "torchvision:wide_resnet50_2"),
        (RESNET50 | {"layer1.0.conv2.weight": (128, 4, 3, 3)}, "resnext50_32x4d, 1000 classes", "torchvision:resnext50_32x4d"),
        (RESNET50 | {"conv1.weight": (64, 1, 3, 3)}, "a residual network with 3-4-6-3 blocks, 1000 classes", ""),
        ({"conv1.weight": (64, 3, 7, 7), **BASICS, "fc.weight": (10, 512)}, "resnet18, 10 classes", "torchvision:resnet18(num_classes=10)"),
        (MOBILENET, "mobilenet_v2, 1000 classes", "torchvision:mobilenet_v2"),
        (VIT, "vit_b_16, 1000 classes", "torchvision:vit_b_16"),
        (BERT, "a BERT-like encoder of the package transformers, 12 layers of 768, 30522 tokens", ""),
        ({"encoder.layers.0.self_attn.in_proj_weight": (48, 16)}, "a transformer of torch.nn, 1 layers of 16", ""),
        ({"0.weight": (16, 10), "2.weight": (4, 16)}, "a network of 2 layers whose first, '0', takes 10 features; it ends in 4 values", ""),
    ],
)
def test_an_architecture_is_known_by_its_names(shapes: dict[str, tuple[int, ...]], what: str, arch: str) -> None:
    guess = likely(shapes)

    assert guess is not None
    assert (guess.what, guess.arch) == (what, arch)


def test_the_command_names_the_architecture() -> None:
    guess = likely(RESNET50)

    assert guess is not None
    assert guess.command_hint("weights.pth") == "Try: towline import weights.pth --name NAME --arch 'torchvision:resnet50'"


@pytest.mark.parametrize(
    "shapes",
    [
        {},
        {"bias": (3,)},
        {"layer1.0.conv1.weight": (), "fc.weight": ()},
        {"conv_proj.weight": (3,), "encoder.layers.encoder_layer_0.ln_1.weight": ()},
    ],
)
def test_names_with_shapes_that_no_such_layer_has_are_no_trap(shapes: dict[str, tuple[int, ...]]) -> None:
    assert likely(shapes) is None
