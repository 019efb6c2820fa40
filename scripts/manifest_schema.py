"""Write docs/reference/manifest.schema.json, the published JSON schema of manifest.json: `python scripts/manifest_schema.py`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from towline.core.manifest import Manifest

PLACE = Path(__file__).parents[1] / "docs" / "reference" / "manifest.schema.json"


def manifest_schema() -> str:
    """The schema as it is published, ending in a newline."""
    (top,), components = msgspec.json.schema_components([Manifest], ref_template="#/$defs/{name}")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "manifest.json of a Towline version",
        **top,
        "$defs": {name: components[name] for name in sorted(components)},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PLACE.write_text(manifest_schema(), encoding="utf-8")
    print(PLACE)
