"""What a measurement looks like to programs and in a browser: CSV, perf_analyzer's CSV, JSON, one page."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from test_latency_knee import level

from towline.verify.latency.knee import Knee
from towline.verify.latency.levels import Level
from towline.verify.latency.page import page
from towline.verify.latency.report import Report, as_csv, as_json, as_perf_analyzer, notes_on
from towline.verify.latency.server_cost import Cost
from towline.verify.latency.server_time import ServerTime
from towline.verify.pages.lines import linear, logarithmic

# As perf_analyzer 2.x writes it with -f for a model without a response cache.
PERF_ANALYZER = (
    "Inferences/Second,Client Send,Network+Server Send/Recv,Server Queue,Server Compute Input,Server Compute Infer,"
    "Server Compute Output,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
)
WITHOUT_SERVER = "Inferences/Second,Client Send,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency"
TIME = ServerTime("v2 statistics", 0.25, 0.01, 1.5, 0.02, 3.5)


def measured(load: float, requests_per_s: float, p99_ms: float = 4.0, *, is_open: bool = False) -> Level:
    points = ((1.0, 0.5), (2.0, 0.99), (p99_ms, 1.0))
    found = level(load, requests_per_s, p99_ms, is_open=is_open)
    return replace(found, server_time=TIME, cost=Cost(80.0, 1 << 28, 6), cdf=points)


def report(*levels: Level, **more: object) -> Report:
    is_open = bool(levels) and levels[0].is_open
    made = Report(
        target="digits:3",
        url="http://127.0.0.1:8000/v2/models/digits/infer",
        protocol="v2",
        model="digits",
        sent="JSON, generated",
        batch=1,
        arrivals="constant" if is_open else "",
        window_s=1.0,
        warmup_s=1.0,
        steadiness_percent=10.0,
        slo_ms=None,
        connections=8,
        processes=1,
        machine="some cpu, 2 cores",
        towline="0.1.0",
        began_s=1.7e9,
        levels=levels,
        knee=Knee(8, "more load brings no more throughput"),
        best_load=8,
        interrupted=False,
        notes=("Closed loop.",),
    )
    return replace(made, **more)  # type: ignore[arg-type]


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_perf_analyzers_columns_are_its_own_and_its_rows_rise_by_throughput() -> None:
    text = as_perf_analyzer(report(measured(1, 69.2), measured(8, 90.5), measured(16, 84.2)))
    rows = rows_of(text)

    assert text.splitlines()[0] == f"Concurrency,{PERF_ANALYZER}"
    assert [row["Concurrency"] for row in rows] == ["1", "16", "8"]
    assert rows[0]["Inferences/Second"] == "69.2"
    assert [rows[0][name] for name in ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output")] == [
        "250",
        "10",
        "1500",
        "20",
    ]
    assert rows[0]["p99 latency"] == "4000"
    # What perf_analyzer's readers do: the parts of the server and of the client add up to the mean.
    parts = [int(rows[0][name]) for name in PERF_ANALYZER.split(",")[1:8]]
    assert sum(parts) == pytest.approx(2000, abs=5)


def test_a_rate_is_a_request_rate_and_a_batch_is_many_inferences() -> None:
    rows = rows_of(as_perf_analyzer(report(measured(500, 499.5, is_open=True), batch=4)))

    assert (rows[0]["Request Rate"], rows[0]["Inferences/Second"]) == ("500", "1998")


def test_without_times_of_the_server_its_columns_are_left_out() -> None:
    text = as_perf_analyzer(report(replace(measured(1, 10), server_time=None)))

    assert text.splitlines()[0] == f"Concurrency,{WITHOUT_SERVER}"


def test_the_network_is_never_negative() -> None:
    slow = replace(measured(1, 10, p99_ms=0.5), server_time=TIME)

    assert rows_of(as_perf_analyzer(report(slow)))[0]["Network+Server Send/Recv"] == "0"


def test_csv_has_a_row_per_load_in_the_order_they_ran_and_nothing_where_nothing_is_known() -> None:
    nothing = replace(measured(16, 0, float("nan")), server_time=None, cost=None, answered=0, client_cpu_us=float("nan"))
    rows = rows_of(as_csv(report(measured(8, 90.5), nothing)))

    assert [(row["loop"], row["load"]) for row in rows] == [("closed", "8"), ("closed", "16")]
    assert (rows[0]["p99_ms"], rows[0]["queue_ms"], rows[0]["server_cpu_us"]) == ("4", "0.25", "80")
    assert [rows[1][name] for name in ("p99_ms", "queue_ms", "server_cpu_us", "client_cpu_us")] == [""] * 4


def test_json_holds_no_word_that_json_has_not() -> None:
    nothing = replace(measured(16, 0, float("nan")), spread_percent=float("inf"), client_cpu_us=float("nan"))

    found = json.loads(json.dumps(as_json(report(nothing)), allow_nan=False))

    assert found["levels"][0]["latency_ms"]["p99"] is None
    assert found["levels"][0]["spread_percent"] is None


def test_notes_say_what_the_figures_do_not() -> None:
    bound, unsteady = replace(level(8, 10), client_busy=0.95), replace(level(16, 10), is_steady=False, errors={"timeout": 1})
    notes = "\n".join(notes_on([bound, unsteady], is_open=False, has_server_time=False, has_cost=False, interrupted=True))

    for said in (
        "Generator-bound at 8:",
        "Not steady at 16:",
        "Interrupted",
        "counted as errors",
        "Closed loop",
        "no queue",
        "no processor time",
    ):
        assert said in notes
    calm = notes_on([level(1, 10)], is_open=True, has_server_time=True, has_cost=True, interrupted=False)
    assert len(calm) == 1
    assert calm[0].startswith("Open loop")


def test_the_page_stands_alone_and_its_charts_are_whole() -> None:
    text = page(report(measured(1, 50), measured(8, 90.5), slo_ms=5.0))
    charts = [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]

    assert len(charts) == 2
    assert all(chart.findall(".//{*}polyline") for chart in charts)
    assert [name.text for name in charts[0].iter() if name.text in ("p50", "p95", "p99", "objective 5 ms")] == [
        "p50",
        "p95",
        "p99",
        "objective 5 ms",
    ]
    assert not re.search(r"<script|<link|<img|@import|url\(|src=", text)
    # The only addresses: SVG's own name, and that of the server.
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg", report().url}
    assert "@media print" in text
    assert text.count("<tr") == 3
    assert '<tr class="knee"><td>8</td>' in text


def test_nothing_from_outside_acts_in_the_page() -> None:
    evil = "<script>alert(1)</script>"
    text = page(report(replace(measured(8, 90.5), errors={evil: 1}), target=evil, url=evil, model=evil, sent=evil))

    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_a_page_of_a_server_that_answered_nothing_is_a_page() -> None:
    nothing = replace(measured(16, 0, float("nan")), server_time=None, cost=None, cdf=(), answered=0)

    assert "</html>" in page(report(nothing, knee=Knee(None, "one load has no knee"), best_load=None))


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([37.0], (0, 10, 20, 30, 40)),
        ([1.0], (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        ([48_000.0], (0, 10_000, 20_000, 30_000, 40_000, 50_000)),
        ([], (0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    ],
)
def test_ticks_are_round_numbers(values: list[float], ticks: tuple[float, ...]) -> None:
    assert linear("x", values).ticks == pytest.approx(ticks)


def test_a_logarithmic_axis_has_whole_decades() -> None:
    axis = logarithmic("x", [0.3, 42.0])

    assert (axis.low, axis.high) == (0.1, 100.0)
    assert (axis.place(0.1), axis.place(100.0), axis.place(0.0)) == (0.0, 1.0, 0.0)
    assert axis.place(3.1623) == pytest.approx(0.5, abs=1e-4)
