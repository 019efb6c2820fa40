"""The model behind TorchServe, as a handler of one's own: JSON or raw bytes in, the row of answers out."""

from __future__ import annotations

from typing import Any

import numpy as np
from served import Array, Served


class Handler:
    def initialize(self, context: object) -> None:
        self._served = Served()

    def handle(self, requests: list[dict[str, Any]], context: object) -> list[dict[str, list[float]]]:
        rows = np.concatenate([self._row(request.get("body") or request.get("data")) for request in requests])
        return [{"y": answer} for answer in self._served.run(rows).tolist()]

    def _row(self, body: Any) -> Array:
        return self._served.from_bytes(body) if isinstance(body, bytes | bytearray) else self._served.from_lists(body["x"])
