"""Distillation: a small student learns to answer as a version does, from its answers and from labels where there are any.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network": alpha T² KL(teacher || student) + (1 - alpha) cross entropy, the first
over all rows, the second over those with a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from towline.optimize.base import Material, Passed, PassFailed
from towline.optimize.rows import open_rows
from towline.optimize.students.asked import Asked, asked_of
from towline.optimize.training.settings import Training

Student = Literal["narrow", "mobile", "mlp", "bag", "given"]
_OWN_ARCHITECTURE = ("mobile", "mlp", "bag")
# A student that costs more than this share of its teacher is not worth the training.
WORTH = 0.5


@dataclass(frozen=True)
class Distill:
    """`student` is the version's own graph with `width` of its channels and `depth` of its blocks (narrow), an architecture of its own
    scaled by both (mobile for pictures, mlp for numbers, bag for tokens), or the ONNX file `file` whose sha256 is `digest` (given).

    The teacher is whoever made the rows' answers; alpha 0 trains without one. `features` are pairs of inner tensors (student's, teacher's)
    that shall be alike (FitNets, Romero et al. 2015), True to have them chosen: the version itself must then be the teacher.
    """

    student: Student = "narrow"
    width: float = 0.25
    depth: float = 1.0
    temperature: float = 4.0
    alpha: float = 0.9
    features: bool | tuple[tuple[str, str], ...] = False
    features_weight: float = 1.0
    training: Training = Training()  # noqa: RUF009
    file: str = ""
    digest: str = ""

    name = "distill"
    environment = "torch"

    @property
    def settings(self) -> str:
        scale = f"{self.width:g} wide" + (f", {self.depth:g} deep" if self.depth != 1 else "")
        words = [f"student {Path(self.file).name}" if self.student == "given" else f"{self.student} student, {scale}"]
        words += [f"temperature {self.temperature:g}", f"alpha {self.alpha:g}"]
        words += ["inner tensors alike"] if self.features else []
        return ", ".join([*words, str(self.training)])

    def run(self, model: Path, into: Path, material: Material) -> Passed:
        if material.rows is None:
            raise PassFailed("Distillation needs rows to learn from.", hint="Give some: --data PATH.")
        rows = open_rows(material.rows)
        if self.alpha and rows.output not in rows.answers:
            raise PassFailed("Distillation needs a teacher's answers.", hint="Name a teacher, or train without one: alpha 0.")
        from towline.optimize.training.distilling import distilled

        return distilled(self, model, into, rows, material)


def student_of(chosen: Distill, model: Any, output: str, spreads: Any = None) -> Any:
    """The untrained student of `model` (both onnx.ModelProto); `spreads` as students/architectures.py has them. Raises PassFailed."""
    from towline.optimize.students import architectures
    from towline.optimize.students.given import given
    from towline.optimize.students.narrowed import narrowed
    from towline.optimize.students.shallow import shallow

    _refuse_nonsense(chosen)
    asked = asked_of(model, output)
    if chosen.student == "given":
        return given(asked, Path(chosen.file), chosen.digest)
    if chosen.student in _OWN_ARCHITECTURE:
        draw = getattr(architectures, chosen.student)
        return draw(asked, width=chosen.width, depth=chosen.depth, seed=chosen.training.seed, spreads=spreads)
    if asked.outputs > 1:
        raise PassFailed(f"A student learns one output, and the version has {asked.outputs}.")
    made = shallow(model, chosen.depth) if chosen.depth != 1 else model
    return narrowed(made, chosen.width, chosen.training.seed) if chosen.width != 1 else made


def given_student(file: Path, training: Training = Training()) -> Distill:  # noqa: B008
    """The pass that teaches the ONNX graph in `file`, as it is now. Raises PassFailed where there is none."""
    from towline.core.digest import file_digest

    if not file.is_file():
        raise PassFailed(f"There is no student at {file}.", hint="Give the path of an ONNX file.")
    return Distill("given", training=training, file=str(file), digest=file_digest(file))


def students_to_try(model: Path, output: str, training: Training = Training()) -> tuple[Distill, ...]:  # noqa: B008
    """What a search should try for this graph, the likeliest first: those that cost at most half its multiply-adds. Trains nothing."""
    import onnx

    from towline.optimize.cost import multiply_adds

    teacher = onnx.load(model)
    most = WORTH * multiply_adds(teacher)
    found = []
    for kind, width in _likely(asked_of(teacher, output)):
        chosen = Distill(kind, width, training=training)
        try:
            cost = multiply_adds(student_of(chosen, teacher, output))
        except PassFailed:
            continue
        found += [chosen] if cost <= most else []
    return tuple(found)


def _likely(asked: Asked) -> tuple[tuple[Student, float], ...]:
    own: dict[str, tuple[tuple[Student, float], ...]] = {
        "picture": (("mobile", 1.0), ("mobile", 0.5)),
        "flat": (("mlp", 0.5), ("mlp", 0.125)),
        "tokens": (("bag", 1.0),),
    }
    return (("narrow", 0.25), *own.get(asked.form, ()), ("narrow", 0.5))


def _refuse_nonsense(chosen: Distill) -> None:
    if not 0 < chosen.width <= 4 or not 0 < chosen.depth <= 4:
        raise PassFailed(f"A student {chosen.width:g} wide and {chosen.depth:g} deep: both are factors, more than 0 and 4 at most.")
    if chosen.student == "narrow" and (chosen.width > 1 or chosen.depth > 1 or chosen.width == chosen.depth == 1):
        raise PassFailed("A student of the version's own graph has a width or a depth of less than 1, and neither of more.")
    if not 0 <= chosen.alpha <= 1 or chosen.temperature <= 0:
        raise PassFailed(f"alpha {chosen.alpha:g} and temperature {chosen.temperature:g}: alpha is 0 to 1, the temperature more than 0.")
