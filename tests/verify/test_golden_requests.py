"""Golden requests: this version's own answers, replayed within their bounds, and told apart from another version's."""

from __future__ import annotations

import numpy as np
import onnx
from direct_runner import DirectRunner
from onnx import numpy_helper

from towline.core.golden import compare_golden
from towline.testing import tiny_models
from towline.verify.golden import BATCH_ROWS, MAX_TOTAL_BYTES, SINGLE_REQUESTS, record_golden
from towline.verify.smoke import smoke_test


def recorded(model: bytes, **options):
    runner = DirectRunner(model)
    return record_golden(runner, smoke_test(runner, runner.signature(), **options), **options)


def test_a_version_passes_its_own_golden_requests_and_another_does_not():
    goldens = recorded(tiny_models.mlp(seed=0))
    same, other = DirectRunner(tiny_models.mlp(seed=0)), DirectRunner(tiny_models.mlp(seed=1))

    assert [len(golden.request["x"]) for golden in goldens] == [1] * SINGLE_REQUESTS + [BATCH_ROWS]
    for golden in goldens:
        assert compare_golden(golden.response, same.run(golden.request), golden.bounds, deterministic=True, same_cpu=True).ok
        assert not compare_golden(golden.response, other.run(golden.request), golden.bounds, deterministic=True, same_cpu=True).ok


def test_a_wrong_weight_is_noticed():
    goldens = recorded(tiny_models.mlp())
    model = onnx.load_from_string(tiny_models.mlp())
    bias = numpy_helper.to_array(model.graph.initializer[3]).copy()
    bias[4] += np.float32(0.01)
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(bias, "b2"))
    runner = DirectRunner(model.SerializeToString())

    verdicts = [compare_golden(g.response, runner.run(g.request), g.bounds, deterministic=True, same_cpu=True).ok for g in goldens]

    assert not any(verdicts)


def test_the_same_model_gives_the_same_golden_requests():
    first, second = recorded(tiny_models.mlp()), recorded(tiny_models.mlp())

    assert [golden.bounds for golden in first] == [golden.bounds for golden in second]
    assert [golden.response["y"].tobytes() for golden in first] == [golden.response["y"].tobytes() for golden in second]


def test_strings_are_recorded_as_bytes():
    goldens = recorded(tiny_models.identity("string"))

    assert all(isinstance(element, bytes) for golden in goldens for element in golden.response["y"].reshape(-1))


def test_a_sample_becomes_the_golden_request_cut_to_a_few_rows():
    goldens = recorded(tiny_models.embedding(rows=2), samples=[{"ids": np.zeros(100, np.int64)}])

    assert [golden.request["ids"].tolist() for golden in goldens] == [[0] * BATCH_ROWS]


def test_a_model_without_a_batch_has_single_requests_only():
    assert len(recorded(tiny_models.fixed_shape())) == SINGLE_REQUESTS


def test_golden_requests_never_fill_the_disk():
    wide = tiny_models.identity("float32", ("N", 450_000))
    goldens = recorded(wide)

    assert len(goldens) == 2
    assert sum(golden.request["x"].nbytes + golden.response["y"].nbytes for golden in goldens) <= MAX_TOTAL_BYTES
