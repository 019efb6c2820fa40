"""Read the option `arch`: `file.py:Class`, `file.py:Class(width=8)` or `torchvision:resnet50`. Pure."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from towline.convert import wording
from towline.core.errors import ImportRefused

_WORDS = re.compile(r"(?P<place>torchvision|.+?\.py):(?P<call>.+)", re.DOTALL)
ARCH_HINT = "Write it as model.py:Class, model.py:Class(width=128) or torchvision:resnet50."


@dataclass(frozen=True)
class Arch:
    """`place` is a Python file, or `torchvision`; `name` what is called there, with these arguments."""

    place: str
    name: str
    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_torchvision(self) -> bool:
        return self.place == "torchvision"


def parse_arch(text: str, *, hint: str = ARCH_HINT) -> Arch:
    """Arguments may be literals only: numbers, text, lists. Raises ImportRefused, with `hint` on how to write it."""
    found = _WORDS.fullmatch(text)
    if found is None:
        raise _refused(f"{wording.name(text)} names nothing in a file", hint)
    try:
        expression = ast.parse(found["call"], mode="eval").body
        if isinstance(expression, ast.Name):
            return Arch(found["place"], expression.id)
        if not isinstance(expression, ast.Call) or not isinstance(expression.func, ast.Name):
            raise ValueError
        named = {word.arg: ast.literal_eval(word.value) for word in expression.keywords if word.arg}
        if len(named) < len(expression.keywords):
            raise ValueError
        return Arch(found["place"], expression.func.id, tuple(map(ast.literal_eval, expression.args)), named)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        raise _refused(f"{wording.name(found['call'])} is no name with plain values as arguments", hint) from None


def _refused(what: str, hint: str) -> ImportRefused:
    return ImportRefused(f"The option arch cannot be read: {what}.", code="BAD_ARCHITECTURE", field="arch", hint=hint)
