"""Random questions to random models in random protocols, at once, while processes are killed and versions swapped.

Every answer equals a direct `session.run` of that request alone, within the version's recorded bound, or is a documented refusal.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from fleet import MODELS, Judge, Question, ask, questions
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from towline.app.changing import set_alias
from towline.app.importing.model import import_model
from towline.store.sqlite import open_store
from towline.testing import tiny_models
from towline.testing.server import RunningServer

# Hundreds of requests of every kind take half a minute: in the tier that has it.
pytestmark = pytest.mark.services

CLIENTS = 12
ANSWER_TIMEOUT_S = 60.0
BATCH = st.lists(questions(), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("fleet")
    (swapped,), singles = [model for model in MODELS if len(model.files) > 1], [model for model in MODELS if len(model.files) == 1]
    for number, file in enumerate(swapped.files, 1):
        import_model(tiny_models.write(folder, file, f"{number}.onnx"), name=swapped.name, home=folder / "home")
    set_alias(f"{swapped.name}:1", "live", home=folder / "home")
    files = [tiny_models.write(folder, model.files[0], f"{model.name}.onnx") for model in singles]
    with RunningServer(f"{swapped.name}@live", *files, home=folder / "home", settings={"keep_versions_s": 0}) as running:
        yield running


def recorded_bounds(home: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """The widest bound that import recorded for each output, over the versions of a model."""
    found: dict[tuple[str, str], tuple[float, float]] = {}
    with open_store(home, read_only=True) as store:
        for version in store.versions():
            for golden in version.manifest.golden:
                for output, bound in golden.bounds.items():
                    before = found.get((version.name, output), (0.0, 0.0))
                    found[version.name, output] = max(before[0], bound.absolute), max(before[1], bound.relative)
    return found


class Clients:
    """A pool of keep-alive connections that puts questions all at once and judges what comes."""

    def __init__(self, server: RunningServer) -> None:
        self.statuses: Counter[int] = Counter()
        self.problems: list[str] = []
        self._connections: list[HTTPConnection] = []
        self._server = server
        self._judge = Judge(recorded_bounds(server.home))
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._mine = threading.local()

    def put(self, batch: list[Question]) -> None:
        """Ask; what is wrong with the answers is added to `problems`."""
        self.problems += [problem for problem in self._pool.map(self._put, batch) if problem]

    def _put(self, question: Question) -> str:
        if not hasattr(self._mine, "connection"):
            self._mine.connection = HTTPConnection(self._server.host, self._server.port, timeout=ANSWER_TIMEOUT_S)
            self._connections.append(self._mine.connection)
        try:
            status, told, outputs = ask(self._mine.connection, question)
        except (OSError, HTTPException) as error:
            self._mine.connection.close()
            return f"{question}: {type(error).__name__} {error}"
        self.statuses[status] += 1
        return self._judge.problem(question, status, told, outputs)

    def close(self) -> None:
        self._pool.shutdown()
        for connection in self._connections:
            connection.close()


def machine_for(server: RunningServer, clients: Clients, until_s: float) -> type[RuleBasedStateMachine]:
    class Fleet(RuleBasedStateMachine):
        def is_over(self) -> bool:
            # A problem ends the play rather than the example: the next example would not find the server as this one did.
            return bool(clients.problems) or time.monotonic() > until_s

        @rule(batch=BATCH)
        def questions_at_once(self, batch: list[Question]) -> None:
            if not self.is_over():
                clients.put(batch)

        @rule(model=st.sampled_from(MODELS), seed=st.integers(0, 2**20))
        def one_model_in_a_crowd(self, model: object, seed: int) -> None:
            """Many questions to one model in one moment: they meet in batches."""
            if not self.is_over():
                crowd = [Question(model.name, seed + n, model.rows[n % len(model.rows)], "v2 json") for n in range(40)]  # type: ignore[attr-defined]
                clients.put(crowd)

        @rule(model=st.sampled_from(MODELS), batch=BATCH, after_ms=st.integers(0, 30))
        def a_worker_is_killed_meanwhile(self, model: object, batch: list[Question], after_ms: int) -> None:
            self._meanwhile(lambda: kill_worker(server, model.name), batch * 2, after_ms)  # type: ignore[attr-defined]

        @rule(batch=BATCH, after_ms=st.integers(0, 30))
        def all_workers_and_the_fork_server_are_killed_meanwhile(self, batch: list[Question], after_ms: int) -> None:
            def kill() -> None:
                for pid in (*server.pids()["fork-server"], *server.pids()["worker"]):
                    kill_one(pid)

            self._meanwhile(kill, batch * 2, after_ms)

        @rule(number=st.integers(1, 2), batch=BATCH, after_ms=st.integers(0, 30))
        def the_alias_moves_meanwhile(self, number: int, batch: list[Question], after_ms: int) -> None:
            self._meanwhile(lambda: set_alias(f"mlp:{number}", "live", home=server.home) and None, batch, after_ms)

        def _meanwhile(self, fault: object, batch: list[Question], after_ms: int) -> None:
            if self.is_over():
                return
            injected = threading.Timer(after_ms / 1000, fault)  # type: ignore[arg-type]
            injected.start()
            clients.put(batch)
            injected.join()

    return Fleet


def kill_worker(server: RunningServer, model: str) -> None:
    for one in server.state()["models"]:
        if one["name"] == model and one["pid"] in server.pids()["worker"]:
            kill_one(one["pid"])


def kill_one(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def play(server: RunningServer, *, budget_s: float, examples: int, steps: int) -> Clients:
    clients = Clients(server)
    try:
        run_state_machine_as_test(
            machine_for(server, clients, time.monotonic() + budget_s),
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                derandomize=True,
                print_blob=False,
                # A server is not set back between examples, so there is nothing to shrink.
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        clients.close()
    return clients


def test_every_answer_is_the_direct_one_or_a_documented_refusal(server: RunningServer) -> None:
    clients = play(server, budget_s=25, examples=25, steps=10)

    assert clients.problems == []
    # That it was no empty play: a busy machine answers fewer.
    assert clients.statuses[200] > 50
    assert set(clients.statuses) <= {200, 400, 500, 504}
    assert "Traceback" not in server.log()


@pytest.mark.services
def test_every_answer_is_the_direct_one_or_a_documented_refusal_for_a_minute(server: RunningServer) -> None:
    clients = play(server, budget_s=60, examples=1000, steps=30)

    assert clients.problems == []
    assert clients.statuses[200] > 100
    assert "Traceback" not in server.log()
