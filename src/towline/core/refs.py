"""How versions are named: `digits`, `digits:3`, `digits@champion`, `sha256:1b77…`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from towline.core.errors import InvalidRequest

MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
ALIAS_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{8,64}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Ref:
    """One way of pointing at a version. At most one of `number` and `alias` is set; `digest` stands alone."""

    name: str = ""
    number: int | None = None
    alias: str = ""
    digest: str = ""

    def __str__(self) -> str:
        if self.digest:
            return self.digest
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return f"{self.name}@{self.alias}" if self.alias else self.name


def check_model_name(name: str) -> str:
    """Return `name` if it may name a model, else say what a name looks like."""
    # ".." can not climb anywhere (names never become paths), but it is refused so that nobody has to prove that twice.
    if not MODEL_NAME.fullmatch(name) or ".." in name:
        raise InvalidRequest(
            f"{clip(name)!r} cannot name a model: expected 1-128 letters, digits, '.', '_' or '-', starting with a letter or digit.",
            code="BAD_NAME",
            field="name",
        )
    return name


def check_alias(alias: str) -> str:
    """Return `alias` if it may name an alias. A number would be read as a version, so it may not."""
    if not ALIAS_NAME.fullmatch(alias) or alias.isdigit():
        raise InvalidRequest(
            f"{clip(alias)!r} cannot name an alias: expected 1-64 letters, digits, '_', '.' or '-', and not only digits.",
            code="BAD_NAME",
            field="alias",
        )
    return alias


def parse_ref(text: str) -> Ref:
    """`name`, `name:number`, `name@alias` or `sha256:hex` (at least 8 digits of it)."""
    if _DIGEST.fullmatch(text):
        return Ref(digest=text)
    if "@" in text:
        name, _, alias = text.partition("@")
        return Ref(check_model_name(name), alias=check_alias(alias))
    name, colon, number = text.partition(":")
    check_model_name(name)
    if not colon:
        return Ref(name)
    if not _NUMBER.fullmatch(number):
        raise InvalidRequest(
            f"{clip(number)!r} is not a version of {name}: expected a number from 1, as in {name}:3.", code="BAD_VERSION", field="version"
        )
    return Ref(name, number=int(number))


def clip(text: str, limit: int = 64) -> str:
    """What came from outside, short enough to be repeated in an error."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
