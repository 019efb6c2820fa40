"""A fitted estimator or Booster of the caller's own process as a source."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from towline.convert.base import Source
from towline.convert.tabular.source import TabularSource


def source_of(model: Any, options: Mapping[str, str]) -> Source:
    """The model itself stays as it is. Raises ImportRefused."""
    return TabularSource(copy.deepcopy(model), declared=options.get("input", ""))
