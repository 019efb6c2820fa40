"""How much one document may ask for, measured before anything of it is validated or run. Pure.

Every count is of the document as it would be with its fragments written out; each fragment is measured once, so that fragments that
double one another fourteen times cost fourteen looks and not 2^14.
"""

from __future__ import annotations

from dataclasses import dataclass

from graphql import GraphQLError
from graphql.language import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

MAX_BODY_BYTES = 32 << 10
MAX_TOKENS = 1000
MAX_DEPTH = 8
MAX_FIELDS = 500
MAX_ALIASES = 16
MAX_ROOT_FIELDS = 16
# The deepest that introspection asks for: tools send one known query, of types within types.
MAX_INTROSPECTION_DEPTH = 16


@dataclass(frozen=True)
class Size:
    """Of a selection: levels of fields, fields, and fields with an alias."""

    depth: int = 0
    fields: int = 0
    aliases: int = 0

    def beside(self, other: Size) -> Size:
        return Size(max(self.depth, other.depth), self.fields + other.fields, self.aliases + other.aliases)


class TooMuch(GraphQLError):
    """The document asks for more than one may. `code` goes into its extensions."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, extensions={"code": code})


def check(document: DocumentNode) -> None:
    """Raises TooMuch for the first operation that is beyond a limit."""
    fragments = {one.name.value: one for one in document.definitions if isinstance(one, FragmentDefinitionNode)}
    measured: dict[str, Size] = {}
    for operation in document.definitions:
        if not isinstance(operation, OperationDefinitionNode):
            continue
        whole = _size(operation.selection_set, fragments, measured, ())
        roots = len(operation.selection_set.selections)
        is_introspection = all(isinstance(one, FieldNode) and one.name.value.startswith("__") for one in operation.selection_set.selections)
        depth = MAX_INTROSPECTION_DEPTH if is_introspection else MAX_DEPTH
        _refuse("TOO_DEEP", "levels of fields", whole.depth, depth)
        _refuse("TOO_MANY_ALIASES", "aliases", whole.aliases, MAX_ALIASES)
        _refuse("TOO_MANY_FIELDS", "fields", max(whole.fields, 0), MAX_FIELDS)
        _refuse("TOO_MANY_FIELDS", "fields at its root", roots, MAX_ROOT_FIELDS)


def _refuse(code: str, what: str, found: int, limit: int) -> None:
    if found > limit:
        # Fragments may make the number itself a thousand digits long.
        shown = str(found) if found < 1_000_000 else "over a million"
        raise TooMuch(code, f"The document has {shown} {what}; the limit is {limit}.")


def _size(
    selections: SelectionSetNode | None, fragments: dict[str, FragmentDefinitionNode], measured: dict[str, Size], inside: tuple[str, ...]
) -> Size:
    """`inside` are the fragments being measured: who is met again there is a circle."""
    total = Size()
    for one in selections.selections if selections else ():
        if isinstance(one, FieldNode):
            below = _size(one.selection_set, fragments, measured, inside)
            total = total.beside(Size(below.depth + 1, below.fields + 1, below.aliases + (one.alias is not None)))
        elif isinstance(one, InlineFragmentNode):
            total = total.beside(_size(one.selection_set, fragments, measured, inside))
        elif isinstance(one, FragmentSpreadNode):
            total = total.beside(_size_of_fragment(one.name.value, fragments, measured, inside))
    return total


def _size_of_fragment(name: str, fragments: dict[str, FragmentDefinitionNode], measured: dict[str, Size], inside: tuple[str, ...]) -> Size:
    if name in inside:
        raise TooMuch("FRAGMENT_CYCLE", "A fragment holds itself.")
    if name not in measured:
        fragment = fragments.get(name)
        measured[name] = _size(fragment.selection_set, fragments, measured, (*inside, name)) if fragment else Size()
    return measured[name]
