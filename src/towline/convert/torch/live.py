"""A module of the caller's own process as a source."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from towline.convert.base import Source
from towline.convert.torch.importer import source_of_module


def source_of(model: Any, options: Mapping[str, str]) -> Source:
    """The model itself stays as it is: in training mode, on its device. Raises ImportRefused."""
    return source_of_module(copy.deepcopy(model).cpu(), architecture=type(model).__name__, options=options)
