"""What one request of a batch asks for and cannot be given costs the others nothing, and nobody waits for ever."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from uncounted import Uncounted

from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.serve.jobs import Batch, Job

EXPECTED = ({"y": np.dtype(np.float32)},)


def job(heard: list[Any], outputs: tuple[str, ...] = ()) -> Job:
    def done(result: Response | TowlineError) -> None:
        heard.append(result.code if isinstance(result, TowlineError) else {name: array.tolist() for name, array in result.outputs.items()})

    return Job(Request({"x": np.zeros((1, 1), np.float32)}, 1, outputs=outputs), done, 0, 0.0, 60.0, 1, Uncounted())


def failing(told: list[str]) -> Callable[[Response | TowlineError], None]:
    """A client whose protocol can write refusals, but not its answer."""

    def done(result: Response | TowlineError) -> None:
        if isinstance(result, Response):
            raise RuntimeError("no bytes can be made of this")
        told.append(result.message)

    return done


def test_who_cannot_be_given_his_answer_is_told_so_and_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []
    told: list[str] = []
    jobs = [job(heard), job(heard)]
    jobs[0].done = failing(told)
    Batch(jobs, 2, 0.0).finish({"y": np.array([[1], [2]], np.float32)}, EXPECTED, "m", 1)

    assert told == ["The server failed to answer; its log says why."]
    assert heard == [{"y": [[2]]}]
    assert "no bytes can be made of this" in caplog.text


@pytest.mark.parametrize("asking", [("y", "z"), ("z",)])
def test_an_output_that_there_is_not_fails_its_request_alone(asking: tuple[str, ...]) -> None:
    heard: list[Any] = []
    jobs = [job(heard, asking), job(heard, ("y",)), job(heard)]
    Batch(jobs, 3, 0.0).finish({"y": np.array([[1], [2], [3]], np.float32)}, EXPECTED, "m", 1)

    assert heard == ["BAD_OUTPUT", {"y": [[2]]}, {"y": [[3]]}]


def test_who_ran_alone_is_told_as_well() -> None:
    heard: list[Any] = []
    Batch([job(heard, ("z",))], 1, 0.0).finish({"y": np.array([[1]], np.float32)}, EXPECTED, "m", 1)

    assert heard == ["BAD_OUTPUT"]


def test_a_part_that_lacks_what_was_asked_for_ends_its_stream() -> None:
    heard: list[Any] = []
    asked = job(heard, ("z",))
    asked.on_part = lambda part, more: heard.append("a part")
    Batch([asked], 1, 0.0).pass_on({"y": np.array([[1]], np.float32)}, EXPECTED, "m", 1, lambda: None)

    assert heard == ["BAD_OUTPUT"]
