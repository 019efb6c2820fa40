"""Whether LiteRT runs a file's operators, whether its graphs end, and whether one request leaves something to the next. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from towline.convert import wording
from towline.convert.tflite.model import TfliteModel
from towline.convert.tflite.operators import CALL_ONCE, KEEPS_STATE, why_not
from towline.core.errors import ImportRefused

_NAMED = 5


def check_structure(model: TfliteModel) -> None:
    """Raises ImportRefused."""
    _check_operators(model)
    _check_ends(model)
    _check_stateless(model)


def _check_operators(model: TfliteModel) -> None:
    reasons = {name: reason for name in model.operators if (reason := why_not(name))}
    if not reasons:
        return
    names = ", ".join(wording.name(name) for name in sorted(reasons)[:_NAMED])
    more = f" and {len(reasons) - _NAMED} more" if len(reasons) > _NAMED else ""
    if any(name.startswith("Flex") for name in reasons):
        raise ImportRefused(
            f"The model uses operators of TensorFlow itself, which LiteRT does not have: {names}{more}.",
            code="UNSUPPORTED_OPERATOR",
            hint="Import the SavedModel or the Keras file that it was made from; or convert that without SELECT_TF_OPS.",
        )
    raise ImportRefused(
        f"The model uses operators that LiteRT does not have: {names}{more}.",
        code="UNSUPPORTED_OPERATOR",
        hint="Custom operators are libraries of their own, which are not loaded. Import the model that it was made from.",
    )


def _check_ends(model: TfliteModel) -> None:
    """No graph may run itself, however far around: LiteRT would follow it until its stack is full."""
    left = {place: _runs(model, place) for place in range(len(model.graphs))}
    while done := [place for place, runs in left.items() if not runs & left.keys()]:
        for place in done:
            del left[place]
    if left:
        raise ImportRefused("The model's graphs run one another in a circle.", code="ENDLESS_GRAPH", hint="Export the model again.")


def _check_stateless(model: TfliteModel) -> None:
    starts = {signature.graph for signature in model.signatures} or {0}
    for place in _reached(model, starts):
        if kept := sorted(KEEPS_STATE & model.graphs[place].operators.keys()):
            raise ImportRefused(
                f"The model keeps values from one request for the next ({kept[0]}), so that its answers depend on who asked before.",
                code="STATEFUL_MODEL",
                hint="Export it with the state as inputs and outputs of its own.",
            )


def _reached(model: TfliteModel, starts: set[int]) -> Iterator[int]:
    """The graphs that a request runs. What runs once, with the first one, fills tables that stay as they are."""
    seen, waiting = set(starts), list(starts)
    while waiting:
        place = waiting.pop()
        yield place
        further = _runs(model, place, besides=CALL_ONCE) - seen
        seen |= further
        waiting += further


def _runs(model: TfliteModel, place: int, *, besides: str = "") -> set[int]:
    return {one for name, places in model.graphs[place].runs.items() if name != besides for one in places}
