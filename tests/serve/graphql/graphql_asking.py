"""The two forms of an answer, and what the tests ask /graphql with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

JSON = "application/json"
GRAPHQL = "application/graphql-response+json"
# ask(document, accept=…, **variables) -> status and body
Ask = Callable[..., tuple[int, Any]]
