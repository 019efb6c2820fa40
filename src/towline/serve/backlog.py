"""How long what waits will wait, learned from how fast a queue empties while it never is empty. Pure."""

from __future__ import annotations

_WINDOW_S = 0.2
# What is promised is a quarter more than what was seen: a run that ends a moment late was for nothing.
_MARGIN = 1.25
# Of what was learned, what is left after each time that nobody had to wait. Machines and models change; to hope is cheaper than to refuse.
_FADES = 0.9
_FORGOTTEN_S = 1e-7


class Backlog:
    """`per_job_s` is what each waiting job adds to the wait, `run_s` what the run itself takes; both 0 while nobody had to wait lately.

    Once a queue is longer than a client's patience, first in, first out answers everybody just too late (measured: at ten times the
    capacity and a deadline of 1 s, 4 % of the capacity came in time). So who cannot be served in time is told at once.
    """

    __slots__ = ("_jobs", "_since_s", "is_known", "per_job_s", "run_s")

    def __init__(self) -> None:
        self.per_job_s = self.run_s = 0.0
        # There is, or was lately.
        self.is_known = False
        self._jobs = 0
        self._since_s = -1.0

    def stays(self, now_s: float, left: int, at_once: int) -> None:
        """`left` jobs have left the queue to be run, and others still wait: all the lane runs at once, `at_once` jobs, is running."""
        self.is_known = True
        if self._since_s < 0:
            self._since_s, self._jobs = now_s, 0
            return
        self._jobs += left
        spent_s = now_s - self._since_s
        # What runs at once ends together: fewer ends than that are no measure.
        if spent_s >= _WINDOW_S and self._jobs >= at_once:
            self.per_job_s = _MARGIN * spent_s / self._jobs
            self.run_s = self.per_job_s * at_once
            self._since_s, self._jobs = now_s, 0

    def is_gone(self) -> None:
        """Nobody waits, or there is nothing to run on."""
        self._since_s = -1.0
        self.per_job_s *= _FADES
        self.run_s *= _FADES
        if self.per_job_s < _FORGOTTEN_S:
            self.per_job_s = self.run_s = 0.0
            self.is_known = False

    def wait_s(self, waiting: int) -> float:
        """Until the answer to a job that would come behind so many."""
        return waiting * self.per_job_s + self.run_s
