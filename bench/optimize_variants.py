"""What `make bench-optimize` makes of its network: a chain of passes per row of the table, and students with few labels."""

from __future__ import annotations

from dataclasses import dataclass

from towline.core.cpu import cpu_kind
from towline.optimize.base import Pass
from towline.optimize.distill import Distill
from towline.optimize.prune import Prune
from towline.optimize.qat import Qat
from towline.optimize.quantize import Int8, reduces_range
from towline.optimize.training.settings import Training

INT8 = Int8(reduce_range=reduces_range(cpu_kind()))


@dataclass(frozen=True)
class Variant:
    """`key` begins the keys of its figures (goals.py); `rows` is how many it may be trained on."""

    key: str
    english: str
    chinese: str
    passes: tuple[Pass, ...]
    rows: int = 20_000


PRUNED = Prune(0.5, training=Training(epochs=2))
STUDENT = Distill("narrow", 0.25, training=Training(epochs=5, rate=4e-3))
VARIANTS = (
    Variant("int8", "static int8", "静态 int8", (INT8,)),
    # The roundings take as long to train as the whole network, and need few rows to settle.
    Variant("qat", "int8, trained with its roundings", "int8，量化感知训练", (INT8, Qat(Training(epochs=1, rate=2e-4))), rows=4_000),
    Variant("pruned", "half the channels pruned, fine-tuned", "剪去一半通道并微调", (PRUNED,)),
    Variant("pruned_int8", "the same, then static int8", "同上，再静态 int8", (PRUNED, INT8)),
    Variant("student", "distilled student", "蒸馏出的学生", (STUDENT,)),
    Variant("student_int8", "the same, then static int8", "同上，再静态 int8", (STUDENT, INT8)),
)


def few_labels(seed: int) -> tuple[Distill, Distill]:
    """A student that learns from the network and from few labels, and the same one that has the labels alone, with as many steps."""
    taught = Distill("narrow", 0.25, training=Training(epochs=2, rate=4e-3, seed=seed))
    return taught, Distill("narrow", 0.25, alpha=0, training=Training(epochs=40, rate=4e-3, seed=seed))
