"""An account for jobs that no slot admitted."""

from __future__ import annotations

from collections.abc import Sequence

from towline.core.errors import TowlineError
from towline.core.inference import Response
from towline.serve.jobs import Job


class Uncounted:
    """An account nobody reads."""

    def one(self, job: Job, result: Response | TowlineError) -> None:
        return

    def many(self, jobs: Sequence[Job]) -> None:
        return
