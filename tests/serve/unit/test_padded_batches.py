"""Requests of unlike length share a run: who goes with whom, what each is answered, and what a hostile answer comes to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import onnxruntime
import pytest
from padded_manifests import encoder
from slot_scene import LIMITS, MANIFEST, Scene, play
from test_batcher import Desk
from test_finished_batches import failing
from uncounted import Uncounted

from towline.app.importing.model import import_model
from towline.app.serving.inline import load_inline
from towline.core.config import Settings
from towline.core.errors import TowlineError
from towline.core.inference import Request, Response
from towline.core.version import Version
from towline.monitor.metrics import ServingMetrics
from towline.serve import lanes
from towline.serve.batcher import Batcher
from towline.serve.embedded import Embedded, Lent
from towline.serve.jobs import Batch, Job, expected_outputs
from towline.serve.lanes import InlineLanes
from towline.serve.padded import MOST_PASSED, PaddedBatch, PaddedBatcher
from towline.serve.padding import Plan
from towline.serve.router import WantedModel, WantedVersion
from towline.serve.surroundings import SlotLimits
from towline.testing import tiny_models, tiny_sequences

LENGTHS = (5, 9, 7, 40, 6, 33, 8, 64, 5)


class PaddingDesk(Desk):
    """A desk whose batcher pads rows of ids (`encoder` of padded_manifests.py); `shares` are the shares of padding it told of."""

    def __init__(self, *, up_to: int = 512, max_rows: int = 1000, max_bytes: int = 1 << 20, room: int = 1) -> None:
        super().__init__(room=room)
        self.shares: list[float] = []
        loop: Any = self.loop
        self.batcher = PaddedBatcher(
            Plan(encoder()), self.shares.append, max_rows=max_rows, max_bytes=max_bytes, clock=lambda: self.now_s, loop=loop
        )
        self.batcher.pads_up_to = up_to
        self.batcher.lane = self.lane

    def ask(self, *lengths: int, **facts: Any) -> list[Job]:
        """A request for each length, whose id it is."""
        return [self.put(str(length), group=((length,), (3,)), nbytes=8 * length + 12, **facts)[0] for length in lengths]


def test_who_fits_the_oldest_goes_with_him_and_who_does_not_keeps_his_place() -> None:
    desk = PaddingDesk()
    desk.ask(10, 200, 12, 170, 9, 300)

    assert desk.settle() == [["10", "12", "9"], ["200", "170", "300"]]
    assert desk.shares == pytest.approx([1 - 31 / 48, 1 - 670 / 960])
    assert desk.batcher.waiting_bytes == 0


def test_who_is_passed_over_goes_before_those_behind_him() -> None:
    desk = PaddingDesk(room=2)
    desk.ask(10, 200, 12, 9, 170, 300)

    assert desk.settle() == [["10", "12", "9"], ["200", "170", "300"]]


def test_the_oldest_always_goes_however_many_others_fit_one_another() -> None:
    desk = PaddingDesk()
    desk.ask(500, *[8] * 20)

    assert desk.settle()[0] == ["500"]


def test_one_that_must_run_alone_does() -> None:
    desk = PaddingDesk()
    desk.put("a", "b", group=None)
    desk.ask(8, 8)

    assert desk.settle() == [["a"], ["b"], ["8", "8"]]


def test_switched_off_only_equal_rows_share_a_run() -> None:
    desk = PaddingDesk(up_to=0)
    desk.ask(10, 12, 10, 12)

    assert desk.settle() == [["10", "10"], ["12", "12"]]
    assert desk.shares == [0.0, 0.0]


def test_a_run_stays_within_rows_and_within_bytes_as_they_are_after_padding() -> None:
    desk = PaddingDesk(max_rows=2)
    desk.ask(10, 11, 12)
    assert desk.settle() == [["10", "11"], ["12"]]

    desk = PaddingDesk(max_bytes=2 * (16 * 8 + 12))
    desk.ask(10, 11, 12)
    assert desk.settle() == [["10", "11"], ["12"]]


def test_nobody_waits_for_what_is_late_or_gone_and_each_is_told_once() -> None:
    desk = PaddingDesk()
    desk.ask(10)
    desk.ask(200, 11, deadline=0.5)
    (gone,) = desk.ask(12)
    gone.abandon()
    desk.now_s = 1.0
    desk.batcher.flush()

    assert desk.settle() == [["10"]]
    assert desk.answers == [("200", "DEADLINE_EXCEEDED"), ("11", "DEADLINE_EXCEEDED")]
    assert desk.batcher.waiting_bytes == 0


def test_a_long_queue_is_not_searched_to_its_end() -> None:
    desk = PaddingDesk()
    desk.ask(10, *[500] * MOST_PASSED, 10)

    assert desk.settle()[0] == ["10"]


def job(length: int, heard: list[Any], *, rows: int = 1, outputs: tuple[str, ...] = ()) -> Job:
    inputs = {"ids": np.arange(1, rows * length + 1).reshape(rows, length), "features": np.ones((rows, 3), np.float32)}
    request = Request(inputs, rows, outputs=outputs)

    def done(result: Response | TowlineError) -> None:
        heard.append(result.code if isinstance(result, TowlineError) else {name: array.tolist() for name, array in result.outputs.items()})

    return Job(request, done, 0, 0.0, 60.0, ((length,), (3,)), Uncounted())


def padded(heard: list[Any], *lengths: int) -> PaddedBatch:
    jobs = [job(length, heard) for length in lengths]
    return PaddedBatch(jobs, len(jobs), 0.0, Plan(encoder()), ((4,), (3,)))


def test_rows_are_put_together_with_what_the_manifest_says_behind_them() -> None:
    batch = padded([], 2, 4)
    (tensors,) = batch.inputs

    assert tensors["ids"].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]
    assert tensors["features"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert batch.layout == (2, ((4,), (3,)))


def test_each_is_answered_what_is_his_own() -> None:
    heard: list[Any] = []
    padded(heard, 2, 4).finish({"y": np.arange(8, dtype=np.float32).reshape(2, 4)}, expected_outputs(encoder()), "m", 1)

    assert heard == [{"y": [[0, 1]]}, {"y": [[4, 5, 6, 7]]}]


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (2,), (1, 4), ()])
def test_an_answer_that_is_not_as_long_as_its_rows_is_nobodys(shape: tuple[int, ...]) -> None:
    heard: list[Any] = []
    padded(heard, 2, 4).finish({"y": np.zeros(shape, np.float32)}, expected_outputs(encoder()), "m", 1)

    assert heard == ["BAD_OUTPUT", "BAD_OUTPUT"]


def test_one_answer_that_cannot_be_given_costs_the_others_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Any] = []
    batch = padded(heard, 2, 4)

    told: list[str] = []
    batch.jobs[0].done = failing(told)
    batch.finish({"y": np.zeros((2, 4), np.float32)}, expected_outputs(encoder()), "m", 1)

    assert heard == [{"y": [[0, 0, 0, 0]]}]
    assert told == ["The server failed to answer; its log says why."]
    assert "an answer could not be given" in caplog.text


# With a real model in a real worker.


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("padded")
    return import_model(tiny_models.write(folder, tiny_sequences.encoder(), "encoder.onnx"), home=folder / "home").version


@pytest.fixture(scope="module")
def session(version: Version) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(version.path / version.manifest.model_file, options, providers=["CPUExecutionProvider"])


def sentences() -> list[dict[str, np.ndarray]]:
    """One or two rows of each length."""
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 64, (1 + number % 2, length)) for number, length in enumerate(LENGTHS)]
    return [{"input_ids": one, "attention_mask": np.ones_like(one)} for one in ids]


def asked(version: Version, *, inline: bool, **settings: Any) -> tuple[list[dict[str, np.ndarray]], list[Batch], str]:
    """The answers of a server that all sentences reach in one turn, the batches it made of them, and its metrics."""
    ran: list[Batch] = []

    async def work() -> tuple[list[Response], str]:
        metrics = ServingMetrics()
        inside = (lambda loop: InlineLanes(load_inline, loop)) if inline else None
        embedded = Embedded(Settings(runs=1, **settings), Lent(metrics, lambda slots: b"", inside))
        wanted = WantedModel("m", (WantedVersion("m", 1, version.digest, str(version.path)),), 1)
        try:
            await embedded.start([wanted])
            (slot,) = embedded.plane.slots()
            (lane,) = slot._staff.crew
            run = lane.run
            lane.run = lambda batch: (ran.append(batch), run(batch))[1]  # type: ignore[method-assign]
            asking = [embedded.infer(slot, Request(one, len(one["input_ids"]))) for one in sentences()]
            return await asyncio.gather(*asking), metrics.render().decode()
        finally:
            await embedded.stop()

    answers, told = asyncio.run(asyncio.wait_for(work(), 60))
    return [answer.outputs for answer in answers], ran, told


def lengths(ran: list[Batch]) -> list[list[int]]:
    return [[job.request.inputs["input_ids"].shape[1] for job in batch.jobs] for batch in ran]


def check_answers(answers: list[dict[str, np.ndarray]], session: onnxruntime.InferenceSession) -> None:
    for request, answer in zip(sentences(), answers, strict=True):
        (alone,) = session.run(None, request)
        assert answer["vectors"].shape == alone.shape
        np.testing.assert_allclose(answer["vectors"], alone, rtol=0, atol=2**-16)


@pytest.fixture
def merging_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is while it times the model."""
    monkeypatch.setattr(lanes, "merging_pays", lambda report: True)
    monkeypatch.setattr(lanes, "rows_that_pay", lambda curve: 0)
    monkeypatch.setattr(lanes, "length_that_pays", lambda lengths: 1024)


@pytest.mark.usefixtures("merging_pays")
@pytest.mark.parametrize("inline", [False, True], ids=["in a worker", "in this process"])
def test_a_padded_request_is_answered_what_it_is_alone(version: Version, session: onnxruntime.InferenceSession, inline: bool) -> None:
    answers, ran, told = asked(version, inline=inline)

    check_answers(answers, session)
    assert lengths(ran) == [[5, 7, 6, 8, 5], [9], [40, 33, 64]]
    assert 'towline_batch_padding_ratio_count{model="m",version="1",track=""} 3' in told


@pytest.mark.usefixtures("merging_pays")
def test_switched_off_each_length_runs_by_itself(version: Version, session: onnxruntime.InferenceSession) -> None:
    answers, ran, _ = asked(version, inline=True, padding=False)

    check_answers(answers, session)
    assert lengths(ran) == [[5, 5], [9], [7], [40], [6], [33], [8], [64]]


def test_only_a_version_that_bears_padding_has_a_batcher_that_looks_for_it() -> None:
    async def nothing(scene: Scene) -> None:
        """It is there."""

    never = msgspec.structs.replace(encoder(), batchable=False)
    kinds = [type(play(nothing, manifest=manifest).slot._batcher) for manifest in (encoder(), MANIFEST, never)]

    assert kinds == [PaddedBatcher, Batcher, Batcher]


def test_a_deployment_says_for_itself_whether_it_is_padded() -> None:
    async def switched(scene: Scene) -> None:
        place = scene.places.given[0]
        place.pads_up_to = 64
        scene.slot.limit(replace(LIMITS, latency_slo_ms=9.0))
        seen.append(scene.slot._batcher.pads_up_to)
        scene.slot.limit(replace(LIMITS, padding=False))
        seen.append(scene.slot._batcher.pads_up_to)

    seen: list[int] = []
    play(switched, manifest=encoder())

    assert seen == [64, 0]


@pytest.mark.parametrize(("own", "padded"), [({}, True), ({"padding": None}, True), ({"padding": False}, False)])
def test_what_a_deployment_says_goes_before_the_servers_setting(own: dict[str, Any], padded: bool) -> None:
    async def work() -> SlotLimits:
        plane = Embedded(Settings(), Lent(ServingMetrics(), lambda slots: b"")).plane
        return plane._limits_of(WantedModel("m", (), None, limits=own), WantedVersion("m", 1, "", ""), MANIFEST)

    assert asyncio.run(work()).padding is padded
