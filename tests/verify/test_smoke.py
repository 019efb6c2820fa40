"""The smoke test on real small models: what it proves, what it refuses, and what it costs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from direct_runner import DirectRunner
from onnx import helper, load_from_string

from towline.core.errors import DeadlineExceeded, ImportRefused, WorkerDied
from towline.core.manifest import Signature, TensorSpec
from towline.testing import tiny_models
from towline.verify.smoke import PROOF_SIZES, smoke_test


class HandClock:
    """It goes on when the test says so: here no machine is slow."""

    at_s = 0.0

    def monotonic(self) -> float:
        return self.at_s

    def time(self) -> float:
        return self.at_s


def smoke(model: bytes, **options):
    runner = DirectRunner(model)
    return smoke_test(runner, options.pop("signature", None) or runner.signature(), clock=HandClock(), **options)


@pytest.mark.parametrize(
    "model",
    [
        tiny_models.mlp(),
        tiny_models.add_two(),
        tiny_models.slow(rounds=3),
        tiny_models.integer_division(),
        tiny_models.embedding(rows=20),
        *(tiny_models.identity(dtype) for dtype in ("string", "bool", "float16", "float64", "uint8", "int64")),
    ],
    ids=lambda _: "",
)
def test_models_whose_rows_keep_to_themselves_are_batchable(model):
    smoked = smoke(model)

    assert smoked.unbatchable_because == ""
    assert smoked.batchable
    assert smoked.measured.deterministic
    assert smoked.finite
    assert smoked.measured.max_batch == 256


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (tiny_models.softmax_over_rows(), "a row of output 'y' changes with the other rows of its batch"),
        (tiny_models.dynamic_int8(), "a row of output 'y' changes with the other rows of its batch"),
        (tiny_models.fixed_shape(), "input 'x' leads with the fixed size 1"),
        (tiny_models.random_noise(), "output 'y' differs from run to run"),
        (tiny_models.counted_loop(), "input 'rounds' leads with the fixed size 1"),
        (tiny_models.memory_bomb(), "input 'shape' leads with the fixed size 2"),
        (tiny_models.identity("float32", ("N", "N")), "'N' is not only the leading dim of 'x'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_models_that_must_never_be_merged_say_why(model, reason):
    smoked = smoke(model)

    assert not smoked.batchable
    assert smoked.unbatchable_because.startswith(reason)


def test_a_model_that_draws_lots_is_told_apart_from_one_that_rounds():
    assert not smoke(tiny_models.random_noise()).measured.deterministic
    assert smoke(tiny_models.dynamic_int8()).measured.deterministic


def test_the_same_seed_finds_the_same():
    first, second = smoke(tiny_models.mlp()), smoke(tiny_models.mlp())

    assert first.gaps == second.gaps
    assert first.signature == second.signature


def test_nan_is_reported_but_not_refused():
    smoked = smoke(tiny_models.logarithm())

    assert not smoked.finite
    assert smoked.batchable
    assert smoked.notes == ("Gives NaN or infinity on the tested input, in 'y'.",)


def test_an_index_out_of_range_is_tried_again_with_tamer_values():
    smoked = smoke(tiny_models.embedding(rows=2))

    assert smoked.batchable
    assert "tested with integers of 0 and 1" in smoked.notes[0]


def test_a_table_of_one_row_leaves_nothing_to_prove_with():
    smoked = smoke(tiny_models.embedding(rows=1))

    assert not smoked.batchable
    assert smoked.unbatchable_because == "no unlike rows could be made to prove it (integers of 0)"


def test_a_model_that_takes_nothing_we_can_think_of_is_refused_and_told_about_samples():
    signature = Signature((TensorSpec("x", "float32", ("N", 7)),), (TensorSpec("y", "float32", ("N", 10)),))

    with pytest.raises(ImportRefused) as refusal:
        smoke(tiny_models.mlp(), signature=signature)

    assert refusal.value.code == "SMOKE_TEST_FAILED"
    assert "--sample" in refusal.value.hint


def test_a_sample_is_what_gets_tested_and_its_values_stay_legal():
    smoked = smoke(tiny_models.embedding(rows=2), samples=[{"ids": np.array([1, 0, 1])}])

    assert smoked.batchable
    assert smoked.notes == ()


def test_a_sample_that_the_engine_refuses_is_named():
    with pytest.raises(ImportRefused) as refusal:
        smoke(tiny_models.embedding(rows=2), samples=[{"ids": np.array([7])}])

    assert refusal.value.code == "SAMPLE_REFUSED"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (WorkerDied("gone", signal_number=8), "ENGINE_CRASHED", "SIGFPE"),
        (WorkerDied("gone", signal_number=0), "ENGINE_CRASHED", "ended"),
        (DeadlineExceeded("late"), "SMOKE_TEST_TIMEOUT", "within 60 seconds"),
    ],
)
def test_an_engine_that_dies_or_hangs_is_a_refusal(error, code, words):
    class Dying(DirectRunner):
        def run(self, inputs, *, timeout_s=60.0):
            raise error

    runner = Dying(tiny_models.mlp())
    with pytest.raises(ImportRefused) as refusal:
        smoke_test(runner, runner.signature())

    assert refusal.value.code == code
    assert words in refusal.value.message


def unnamed_leading(signature: Signature) -> tuple[Signature, tuple[str, ...]]:
    """The signature as import writes it for a model that names no dims."""

    def specs(values):
        return tuple(TensorSpec(spec.name, spec.dtype, (f"{spec.name}_0", *spec.shape[1:])) for spec in values)

    return Signature(specs(signature.inputs), specs(signature.outputs)), tuple(
        f"{spec.name}_0" for spec in (*signature.inputs, *signature.outputs)
    )


def test_unnamed_dims_are_taken_for_the_batch_once_it_is_proven():
    signature, unnamed = unnamed_leading(DirectRunner(tiny_models.add_two()).signature())

    smoked = smoke(tiny_models.add_two(), signature=signature, unnamed=unnamed)

    assert smoked.batchable
    assert {spec.shape[0] for spec in (*smoked.signature.inputs, *smoked.signature.outputs)} == {"a_0"}


def test_unnamed_dims_stay_apart_when_it_is_not_proven():
    model = load_from_string(tiny_models.add_two())
    model.graph.node[0].output[0] = "sum"
    model.graph.node.append(helper.make_node("Softmax", ["sum"], ["y"], axis=0))
    signature, unnamed = unnamed_leading(DirectRunner(tiny_models.add_two()).signature())

    smoked = smoke(model.SerializeToString(), signature=signature, unnamed=unnamed)

    assert not smoked.batchable
    assert smoked.signature == signature


def test_an_output_with_a_name_of_its_own_is_not_taken_for_the_batch():
    signature, _ = unnamed_leading(DirectRunner(tiny_models.mlp()).signature())

    assert (
        smoke(tiny_models.mlp(), signature=signature).unbatchable_because == "output 'y' leads with 'y_0', not with 'x_0' as the inputs do"
    )


def test_a_model_is_run_a_few_dozen_times_and_on_a_few_hundred_rows():
    runner = DirectRunner(tiny_models.mlp())
    smoke_test(runner, runner.signature(), clock=HandClock())

    assert len(runner.runs) < 40
    assert sum(runner.runs) < 500


def test_a_slow_model_gets_fewer_and_smaller_batches_but_never_less_than_two_sizes():
    clock = HandClock()

    class Slow(DirectRunner):
        def run(self, inputs, *, timeout_s=60.0):
            clock.at_s += 0.01 * len(inputs["x"])
            return super().run(inputs, timeout_s=timeout_s)

    runner = Slow(tiny_models.mlp())

    smoked = smoke_test(runner, runner.signature(), budget_s=0.1, clock=clock)

    assert smoked.batchable
    assert set(runner.runs) == {1, *PROOF_SIZES[:2]}
    assert smoked.measured.max_batch == 1


def test_memory_is_told_beyond_an_empty_worker_and_rounded_up():
    class Weighed(DirectRunner):
        def memory_bytes(self):
            return 105 << 20

        def peak_memory_bytes(self):
            return 133 << 20

    runner = Weighed(tiny_models.mlp())
    measured = smoke_test(runner, runner.signature(), empty_worker_bytes=100 << 20).measured

    assert (measured.memory_loaded_bytes, measured.memory_peak_bytes) == (16 << 20, 48 << 20)


def test_the_climb_stops_before_memory_would_run_out():
    class Growing(DirectRunner):
        def memory_bytes(self):
            return 100 << 20

        def peak_memory_bytes(self):
            return (100 + max(self.runs, default=0)) << 20

    runner = Growing(tiny_models.mlp())
    measured = smoke_test(runner, runner.signature(), memory_limit_bytes=300 << 20, clock=HandClock()).measured

    assert measured.max_batch == 64
    assert max(runner.runs) == 64


def test_a_batch_the_engine_refuses_is_a_reason_not_a_failure():
    model = load_from_string(tiny_models.mlp())
    model.graph.node[3].output[0] = "s"
    model.graph.node.append(helper.make_node("Reshape", ["s", "one_row"], ["y"]))
    model.graph.initializer.append(helper.make_tensor("one_row", 7, [2], [1, 10]))
    smoked = smoke(model.SerializeToString(), signature=DirectRunner(tiny_models.mlp()).signature())

    assert not smoked.batchable
    assert smoked.unbatchable_because.startswith("the engine refuses a batch: ")


def test_gaps_of_the_mlp_are_rounding_only():
    gap = smoke(tiny_models.mlp()).gaps["y"]

    assert gap == replace(gap, repeats=0.0, mates=0.0)
    assert gap.size <= 1e-6
