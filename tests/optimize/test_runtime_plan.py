"""Which ways of running a version are tried, which are measured closely, and which is taken: decided without a clock or a worker."""

from __future__ import annotations

import pytest

from towline.core.runtime import Runtime
from towline.optimize.runtime import Facts, Reading, Setting, batches_to_try, choice, finalists, flags, gains, settings_to_try

OWN = Setting()
TWO_THREADS = Setting(Runtime(threads=2, runs=1, instances=1))
TWO_RUNS = Setting(Runtime(threads=1, runs=2, instances=1))
TWO_WORKERS = Setting(Runtime(threads=1, runs=1, instances=2))


def facts(**told: object) -> Facts:
    return Facts(**{"cores": 2, "clients": 32, "runs": 2, "batchable": True, **told})  # type: ignore[arg-type]


def reading(setting: Setting, clients: int = 8, rows_per_s: float = 100.0, ms: float = 10.0, turns: tuple[float, ...] = ()) -> Reading:
    """`turns` are rows a second of each, and 1/turns the milliseconds."""
    turns = turns or (rows_per_s,) * 4
    return Reading(setting, clients, rows_per_s, ms, ms * 2, 50.0, 1 << 20, turns, tuple(1 / one for one in turns))


def shapes(found: tuple[Setting, ...]) -> list[tuple[int, int, int]]:
    return [(one.runtime.threads, one.runtime.runs, one.runtime.instances) for one in found]


def test_the_servers_own_way_is_tried_first_and_not_again_by_another_name() -> None:
    assert shapes(settings_to_try(facts(runs=2))) == [(0, 0, 0), (1, 1, 1), (2, 2, 1), (2, 1, 1), (1, 1, 2)]
    assert shapes(settings_to_try(facts(runs=1))) == [(0, 0, 0), (1, 2, 1), (2, 2, 1), (2, 1, 1), (1, 1, 2)]


def test_no_way_is_tried_twice_and_none_with_more_threads_than_cores() -> None:
    for cores in (1, 2, 3, 6, 16, 96):
        found = settings_to_try(facts(cores=cores, runs=cores))
        assert len(set(found)) == len(found)
        assert max(one.runtime.threads for one in found) <= cores
        assert all(one.runtime.threads * one.runtime.runs * one.runtime.instances <= cores**2 for one in found)
    assert shapes(settings_to_try(facts(cores=1, runs=1))) == [(0, 0, 0)]


def test_a_handler_is_tried_in_more_workers_only() -> None:
    assert shapes(settings_to_try(facts(cores=4, is_handler=True))) == [(0, 0, 0), (0, 0, 2), (0, 0, 4)]


def test_further_engines_and_devices_are_tried_where_there_are_any() -> None:
    found = settings_to_try(facts(engines=("openvino",), devices=("cuda:0",)))

    assert [(one.engine, one.runtime.threads, one.runtime.runs) for one in found if one.engine] == [("openvino", 1, 2), ("openvino", 2, 1)]
    assert [(one.device, one.runtime.runs) for one in found if one.device != "cpu"] == [("cuda:0", 1), ("cuda:0", 2)]


def test_bounds_on_rows_are_tried_on_the_best_way_and_not_beyond_what_clients_can_fill() -> None:
    readings = [reading(OWN, rows_per_s=100), reading(TWO_RUNS, rows_per_s=150), reading(TWO_THREADS, 1, rows_per_s=90)]

    found = batches_to_try(readings, facts(clients=16), None)

    assert [(one.runtime.runs, one.runtime.max_batch) for one in found] == [(2, 1), (2, 4)]
    assert batches_to_try(readings, facts(batchable=False), None) == ()


def test_the_best_by_either_yardstick_come_to_the_last_round_beside_the_servers_own_way() -> None:
    readings = [
        reading(OWN, 8, 100, 80),
        reading(OWN, 1, 50, 20),
        reading(TWO_RUNS, 8, 160, 50),
        reading(TWO_WORKERS, 8, 150, 53),
        reading(Setting(Runtime(threads=1, runs=1, instances=1)), 8, 60, 130),
        reading(TWO_THREADS, 1, 80, 12),
        reading(TWO_RUNS, 1, 51, 20.1),
    ]

    assert finalists(readings, None) == (OWN, TWO_RUNS, TWO_WORKERS, TWO_THREADS)
    # Under a limit that only lone requests keep, those count.
    assert finalists(readings, 45.0) == (OWN, TWO_THREADS, TWO_RUNS)


def test_what_is_surely_better_is_taken() -> None:
    found = choice([reading(OWN), reading(TWO_RUNS, rows_per_s=150, turns=(140, 150, 150, 160))], "throughput", None)

    assert found.setting == TWO_RUNS
    assert found.gain == pytest.approx(1.5)


def test_what_is_better_in_the_middle_and_not_surely_is_left() -> None:
    found = choice([reading(OWN), reading(TWO_RUNS, rows_per_s=150, turns=(90, 100, 160, 200))], "throughput", None)

    assert found.setting == OWN
    assert "not sure enough" in found.because


def test_a_limit_on_the_99th_percentile_is_kept() -> None:
    fast_and_late = reading(TWO_RUNS, 32, rows_per_s=300, ms=40)
    within = reading(TWO_WORKERS, 8, rows_per_s=150, ms=8)

    readings = [reading(OWN, ms=9), fast_and_late, within]

    assert choice(readings, "throughput", None).setting == TWO_RUNS
    assert choice(readings, "throughput", 20.0).setting == TWO_WORKERS
    assert choice(readings, "throughput", 1.0).because == "Nothing that was measured keeps 1 ms."
    assert choice([reading(OWN, ms=30), within], "throughput", 20.0) == choice([within], "throughput", 20.0)


def test_a_lone_request_is_judged_by_its_median_and_load_does_not_count() -> None:
    readings = [reading(OWN, 1, 50, 20, turns=(50,) * 4), reading(TWO_THREADS, 1, 80, 12, turns=(80,) * 4), reading(OWN, 8, 500, 2)]

    assert choice(readings, "latency", None).setting == TWO_THREADS
    assert choice(readings, "throughput", None).setting == OWN


def test_turns_are_compared_with_those_beside_them() -> None:
    """A machine that slows down slows both: only ratios within a turn tell anything."""
    usual = reading(OWN, turns=(100, 50, 25, 10))
    other = reading(TWO_RUNS, turns=(120, 60, 30, 12))

    assert gains(usual, other, "throughput") == (pytest.approx(1.2), pytest.approx(1.2))
    assert gains(usual, other, "latency") == (pytest.approx(1.2), pytest.approx(1.2))


def test_one_turn_is_sure_of_nothing() -> None:
    assert gains(reading(OWN, turns=(100,)), reading(TWO_RUNS, turns=(900,)), "throughput") == (9.0, 0.0)


def test_a_setting_is_said_in_words_and_as_settings_of_serve() -> None:
    runtime = Runtime(threads=2, runs=1, max_batch=8)

    assert Setting(runtime, "openvino", "cuda:0").words() == "openvino, cuda:0, 2 threads, 1 run, up to 8 rows a run"
    assert OWN.words() == "as the server decides"
    assert flags(runtime) == {"threads": 2, "runs": 1, "max_batch": 8}
