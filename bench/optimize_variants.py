"""What `make bench-optimize` makes of its network: a chain of passes per row of the table, and students with few labels."""

from __future__ import annotations

from dataclasses import dataclass

from towline.core.cpu import cpu_kind
from towline.optimize.base import Pass
from towline.optimize.distill import Distill
from towline.optimize.prune import Prune
from towline.optimize.quantize import Int8, reduces_range
from towline.optimize.training.settings import Training

INT8 = Int8(reduce_range=reduces_range(cpu_kind()))


@dataclass(frozen=True)
class Variant:
    """`key` begins the keys of its figures (goals.py)."""

    key: str
    english: str
    chinese: str
    passes: tuple[Pass, ...]


STUDENT = Distill("narrow", 0.25, training=Training(epochs=5, rate=4e-3))
VARIANTS = (
    Variant("int8", "static int8", "静态 int8", (INT8,)),
    Variant("pruned", "structured pruning, then fine-tuning", "结构化剪枝并微调", (Prune(0.5, training=Training(epochs=2)),)),
    Variant("student", "distilled student", "蒸馏出的学生", (STUDENT,)),
    Variant(
        "best", "distilled student, then static int8", "先蒸馏，再静态 int8", (Distill("narrow", 0.375, training=STUDENT.training), INT8)
    ),
)


def few_labels(seed: int) -> tuple[Distill, Distill]:
    """A student that learns from the network and from few labels, and the same one that has the labels alone, with as many steps."""
    taught = Distill("narrow", 0.25, training=Training(epochs=2, rate=4e-3, seed=seed))
    return taught, Distill("narrow", 0.25, alpha=0, training=Training(epochs=40, batch=128, rate=4e-3, seed=seed))
