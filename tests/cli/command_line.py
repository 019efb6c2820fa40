"""What running a command line gives, for the tests of this folder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

SCHEMAS = Path(__file__).parents[2] / "docs" / "reference" / "schemas"
TOWLINE = [sys.executable, "-c", "import sys; from towline.cli.main import main; sys.exit(main())"]


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """What was printed, checked against its published schema."""
        found = json.loads(self.out)
        verb, _, number = found["schema"].removeprefix("towline.").partition("/")
        schema = json.loads((SCHEMAS / f"towline.{verb}.{number}.json").read_text())
        jsonschema.validate(found, schema, cls=jsonschema.Draft202012Validator)
        return found


Run = Callable[..., Ran]
