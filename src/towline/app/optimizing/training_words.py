"""How a training goes, from the words of a command line: `epochs=3,optimizer=adamw,augment=shift+noise`."""

from __future__ import annotations

from dataclasses import fields

import msgspec

from towline.core.errors import UsageError
from towline.optimize.training.settings import Training

_NAMES = tuple(one.name for one in fields(Training) if one.name != "seed")


def training_of(words: str) -> Training:
    """Raises UsageError that names what does not fit."""
    given: dict[str, object] = {}
    for word in filter(None, words.split(",")):
        name, _, value = word.partition("=")
        if name not in _NAMES or not value:
            raise UsageError(f"'{word[:64]}' is no setting of a training; there is: {', '.join(_NAMES)}, each as NAME=VALUE.")
        given[name] = value.split("+") if name == "augment" else value
    try:
        found = msgspec.convert(given, Training, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"'{words[:64]}' is no training: {error}.") from None
    if found.epochs < 1 or found.batch < 1 or not 0 < found.rate < 100:
        raise UsageError(f"'{words[:64]}' is no training: epochs and batch are at least 1, the rate is above 0.")
    return found
