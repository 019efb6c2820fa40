"""How the row that cannot be read is told. Pure."""

from __future__ import annotations

from towline.core.errors import EngineError, Kind, MissingExtra


def bad_row(code: str, name: str, row: int, what: str, *, hint: str = "", kind: Kind = Kind.INVALID) -> EngineError:
    """An error of one row, which is the request's fault."""
    return EngineError(f"{name}[{row}] {what}", code=code, field=f"{name}[{row}]", kind=kind, hint=hint)


def missing(package: str, extra: str) -> MissingExtra:
    return MissingExtra(f"This version's processing needs {package}, which is not installed.", hint=f"Try: pip install 'towline[{extra}]'")
