"""A script with requests reads a stream line by line: python events_session.py URL. Prints the events' data as JSON."""

from __future__ import annotations

import json
import sys

import requests

with requests.post(f"{sys.argv[1]}/models/Words/predict?stream=true", json={"text": "one two three"}, stream=True, timeout=60) as answer:
    answer.raise_for_status()
    lines = [line for line in answer.iter_lines(decode_unicode=True) if line]
print(json.dumps({"type": answer.headers["content-type"], "lines": lines}))
