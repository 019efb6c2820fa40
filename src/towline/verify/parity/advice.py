"""What to try where a conversion departs from its source, by the kind of layer and by how its output departs. Pure."""

from __future__ import annotations

import re

from towline.verify.parity.relation import Relation

# Parts of the names that PyTorch, Keras and ONNX give their layers, and what most often goes wrong there.
_BY_KIND: tuple[tuple[str, str], ...] = (
    ("batch_?norm", "batch norm: its epsilon, its running mean and variance, and that it was not exported in training mode"),
    ("(layer|group|instance|rms)_?norm|normalization", "normalisation: its epsilon, its axes, and whether its variance is the biased one"),
    ("dropout", "dropout: it was left in training mode; call model.eval(), or pass training=False, before exporting"),
    (
        "conv",
        "convolution: its padding (SAME is not symmetric), order of channels, strides, dilation, groups, and that its weights are whole",
    ),
    ("resize|upsampl|interpolat", "resize: align_corners (half_pixel, asymmetric), its mode, and how sizes are rounded"),
    ("pool", "pooling: its padding, ceil_mode, and whether padded zeros count in an average"),
    ("gelu", "GELU: whether it is the exact one or its tanh approximation"),
    ("softmax", "softmax: its axis"),
    ("leaky|prelu|elu|selu|swish|silu|hard|mish", "activation: its slope (alpha)"),
    ("lstm|gru|rnn", "recurrent layer: its order of gates, its initial state, and GRU's linear_before_reset (reset_after)"),
    ("attention|transformer", "attention: its mask, its scale (1/sqrt of the head's width) and the layout of heads"),
    ("embedding|gather", "embedding: its table's rows, and the index that pads"),
    ("linear|dense|gemm|matmul|addmm", "dense layer: that its weights are whole, not transposed, and of this checkpoint"),
    ("flatten|reshape|permute|transpose|view", "layout: the order of axes; flattening NCHW and NHWC gives unlike orders"),
    ("concat|cat", "concatenation: its axis, and the order of its parts"),
    ("pad", "padding: its amounts, mode and value"),
    ("norm", "normalisation: its epsilon and axes"),
)
_ANY = "settings of this layer, and whether its weights are those of the source"


def advice(kind: str, found: Relation | None = None) -> str:
    """What to look at: a phrase that goes on "Look at the …"."""
    words = kind.lower().replace(" ", "")
    if found is not None and found.is_factors and is_batch_norm(kind):
        return _of_factors(found)
    if found is not None:
        for kinds, said in _BY_RELATION.items():
            if found.kind in kinds:
                return said
    return next((said for pattern, said in _BY_KIND if re.search(pattern, words)), _ANY)


_BY_RELATION = {
    ("channels lost",): "weights: they look truncated or only partly loaded; compare the sizes of both files, and export again",
    ("channels reordered",): "order of channels: it was swapped",
    ("border",): "padding: its amounts, or zeros against reflected values; SAME is not symmetric where a stride is 2",
    ("shift",): "padding: it is on the other side; SAME of TensorFlow pads after, symmetric padding before as well",
}


def _of_factors(found: Relation) -> str:
    low, high = found.factors
    if high < 1 or low > 1:
        return "batch norm: its epsilon looks wrong (PyTorch's default is 1e-05, Keras's 0.001): every channel is off to the same side"
    return "batch norm: its scale, mean or variance are of another checkpoint, or of the batch, because it was exported in training mode"


def lost(kind: str) -> str:
    """For a layer whose input comes out unchanged, or that has no counterpart."""
    what = "batch norm" if is_batch_norm(kind) else "layer itself"
    return f"{what}: it is lost in the conversion; export again, in inference mode, from the model that has it"


def is_batch_norm(kind: str) -> bool:
    return bool(re.search("batch_?norm", kind.lower().replace(" ", "")))
