"""From what was measured to the figures that goals are about; what was left out is absent and no failure."""

from __future__ import annotations

import pytest


@pytest.fixture
def made(bench):
    figures, report, image = bench("figures").Figures, bench("report"), bench("image_load").ImageFigures

    def server(cpu_us: float, failed: int = 0):
        return figures(cpu_us, 1e6 / cpu_us, cpu_us, 2 * cpu_us, failed, ratio=cpu_us / 10, ratio_low=1.0, ratio_high=9.0)

    def measured(**parts):
        machine = {"date": "2026-01-02", "cpu": "a processor", "cores": 2, "rounds": "1 round", "packages": {"towline": "0.1.0"}}
        return report.Measured(machine=machine, **parts)

    seen = image(0.97, 0.9, 1.0, 1.05, 1.0, 1.1, 140.0, 150.0, 7000.0, 6700.0, 50_000.0, 60_000.0, 2, 145.0, 6900.0, 0.99, 1.01)
    return report, server, measured, seen


def load(server, **failed):
    names = {"bare server": 10, "Towline": 20, "FastAPI + uvicorn": 300, "Flask + gunicorn": 400}
    return {64: {name: server(cost, failed.get(name, 0)) for name, cost in names.items()}}


def test_towline_is_compared_with_the_floor_and_with_the_faster_of_the_two_peers(made):
    report, server, measured, _ = made
    found = report.figures_of(measured(load=load(server), floor_us=[5.0]))

    assert (found["cpu_ratio_64"], found["fastapi_cpu_64"], found["best_peer_rate_64"], found["failed"]) == (2, 15, 15, 0)


def test_over_grpc_both_servers_are_compared_with_the_plain_handler(made):
    report, server, measured, _ = made
    servers = {"grpc.aio, plain handler": server(300), "Towline": server(330), "Towline, --grpc native": server(50)}
    found = report.figures_of(measured(grpc={64: servers}))

    assert (found["grpc_cpu_64"], found["grpc_native_64"]) == (1.1, 6)


def test_a_native_server_that_could_not_be_started_leaves_its_goal_unmeasured(made, bench):
    report, server, measured, _ = made
    found = report.figures_of(measured(grpc={64: {"grpc.aio, plain handler": server(300), "Towline": server(330)}}))
    (verdict,) = [one for one in bench("goals").verdicts(found) if one.goal.key == "grpc_native_64"]

    assert verdict.word == "not measured"


def test_requests_that_failed_are_counted_over_all_scenarios_and_only_ours(made):
    report, server, measured, seen = made
    grpc = {64: {"grpc.aio, plain handler": server(300, 50), "Towline": server(330, 4), "Towline, --grpc native": server(50, 8)}}
    found = report.figures_of(measured(load=load(server, **{"Towline": 1, "Flask + gunicorn": 99}), floor_us=[5.0], grpc=grpc, image=seen))

    assert found["failed"] == 1 + 4 + 8 + 2
    assert (found["image_rate"], found["image_cpu"]) == (0.97, 1.05)


def test_the_page_shows_every_scenario_with_its_spread(made):
    report, server, measured, seen = made
    grpc = {64: {"grpc.aio, plain handler": server(300), "Towline": server(330)}}
    page = report.as_markdown(measured(load=load(server), floor_us=[5.0], grpc=grpc, image=seen), [])

    assert "| 64 | **Towline** | 20.0 µs | 2.00x (1.00 to 9.00) | 50,000 |" in page
    assert "| 64 | grpc.aio, plain handler | 300.0 µs |" in page
    assert "0.97x (0.90 to 1.00) the 150.0 runs/s" in page
    assert "Towline gives 0.99x that rate for 1.01x that time" in page


def test_a_readme_gets_ratios_and_the_day_between_its_marks_and_keeps_the_rest(made):
    report, server, measured, _ = made
    table = report.readme_table(measured(load=load(server), floor_us=[5.0]))
    page = report.with_figures(f"before\n{report.FIGURES_START}\nold\n{report.FIGURES_END}\nafter\n", table)

    assert "| 64 | 0.5x | 1.0x | **2.0x** | 30.0x | 40.0x |" in page
    assert "2026-01-02 · a processor" in page
    assert (page.startswith("before\n"), page.endswith("\nafter\n"), "old" in page) == (True, True, False)


def test_a_readme_without_its_marks_is_refused(made):
    with pytest.raises(ValueError, match="lacks its marks"):
        made[0].with_figures("no marks", "table")
