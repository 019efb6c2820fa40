"""Who is compared with whom, and what was not measured is said and never hidden."""

from __future__ import annotations

import itertools
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest


class Made:
    """Matrices out of a few numbers: processor time per request, by name of the peer."""

    def __init__(self, bench) -> None:
        self.matrix, self.standings, self.report = bench("matrix"), bench("standings"), bench("peers_report")
        self.wrk, self.memory, self.place = bench("wrk"), bench("processes").Memory, bench("environments").Environment
        self.peers = {peer.name: peer for peer in bench("against.catalogue").PEERS}

    def outcome(self, name: str, costs: dict[int, float], *, rate: float = 100.0, batching=False, problem="", rounds=1, start_s=1.0, **row):
        row = self.matrix.Row(self.peers[name], row.pop("model", "mlp"), row.pop("protocol", "HTTP"), batching)
        load = {clients: self.wrk.Sample(cost, rate, cost, 2 * cost, 0) for clients, cost in costs.items()}
        visits = [self.matrix.Visit(number, start_s + number, load, self.memory(3_000_000, 2_000_000, 2)) for number in range(rounds)]
        place = self.place(Path("python"), size_bytes=50_000_000, versions={"thing": "1.0"})
        return self.matrix.Outcome(row, visits if costs else (), problem, place)

    def standing(self, *outcomes, raw_us=()):
        return self.standings.standings(self.matrix.Matrix(outcomes, {"mlp": [4.0], "cnn": list(raw_us)}))

    def run(self, *outcomes):
        machine = {"date": "2026-01-02", "cpu": "a processor", "cores": 2, "rounds": "1 round", "packages": {"towline": "0.1.0"}}
        return self.report.Run(machine, self.standing(*outcomes))


@pytest.fixture
def made(bench):
    return Made(bench)


@pytest.fixture
def usual(made):
    return (
        made.outcome("bare server", {1: 50, 64: 10}, rate=900),
        made.outcome("Towline", {1: 100, 64: 20}, rate=500, start_s=2.0),
        made.outcome("mosec", {1: 200, 64: 190}, rate=50),
        made.outcome("mosec", {1: 300, 64: 60}, rate=200, batching=True),
        made.outcome("Ray Serve", {}, problem="not installed: No matching distribution found for ray"),
    )


def test_every_row_is_a_multiple_of_the_bare_server_and_of_towline(made, usual):
    _, towline, mosec, batching, _ = made.standing(*usual)

    assert (towline.load[64].ratio, mosec.load[64].ratio, batching.load[64].ratio) == (2, 19, 6)
    assert (towline.to_towline[64], mosec.to_towline[64], batching.to_towline[1]) == (1, 9.5, 3)


def test_ratios_are_taken_within_a_round(made):
    bare, ours = made.outcome("bare server", {1: 50}, rounds=2), made.outcome("Towline", {1: 100}, rounds=2)
    slow = made.outcome("mosec", {1: 400})
    # In the second round the machine was half as fast, for everyone that ran in it.
    second = made.matrix.Visit(1, 1.0, {1: made.wrk.Sample(200, 1, 1, 1, 0)}, ours.visits[0].memory)
    ours = made.matrix.Outcome(ours.row, [ours.visits[0], second], "", ours.environment)
    slow = made.matrix.Outcome(slow.row, [slow.visits[0]], "", slow.environment)

    assert made.standing(bare, ours, slow)[2].to_towline[1] == 4


def test_the_floor_of_grpc_is_the_plain_handler_and_that_of_another_model_is_the_runtime_alone(made):
    plain = made.outcome("grpc.aio, plain handler", {64: 300}, protocol="gRPC")
    over_grpc = made.outcome("Towline", {64: 150}, protocol="gRPC")
    image = made.outcome("Towline", {8: 8000}, model="cnn")
    found = made.standing(made.outcome("bare server", {64: 10}), plain, over_grpc, image, raw_us=[7500])

    assert found[2].load[64].ratio == 0.5
    assert found[3].load[8].ratio == pytest.approx(8000 / 7500)


def test_a_row_that_failed_in_a_later_round_is_not_measured(made):
    broken = made.outcome("mosec", {1: 200}, problem="it ended with exit code 1: error")

    (found,) = made.standing(broken)
    assert (found.load, found.problem) == ({}, "it ended with exit code 1: error")


def test_goals_are_about_the_best_peer_with_batching_and_the_best_without(made, usual):
    found = made.standings.goal_figures(made.standing(*usual))

    assert (found["tuned_rate_64"], found["untuned_rate_64"], found["best_cpu_64"], found["best_p50_1"]) == (2.5, 10, 3, 2)
    assert found["failed"] == 0


def test_without_peers_no_goal_is_reached(made, usual):
    assert made.standings.goal_figures(made.standing(*usual[:2])) == {}
    assert made.standings.goal_figures(made.standing(*usual[2:])) == {}


def test_where_towline_does_not_lead_is_listed_with_who_does(made, usual):
    (lag,) = made.standings.lags(made.standing(*usual))

    assert (lag.column, lag.leader, lag.factor) == ("start", "mosec", 2)


def test_neither_the_floor_nor_a_difference_within_noise_counts_as_ahead(made):
    ours = made.outcome("Towline", {1: 100}, start_s=1.04)

    assert made.standings.lags(made.standing(made.outcome("bare server", {1: 10}, rate=999), ours, made.outcome("mosec", {1: 104}))) == []


def test_what_was_not_measured_stands_in_the_page_with_its_reason(made, usual):
    page = made.report.as_markdown(made.run(*usual), [])

    assert "- **Ray Serve** was not measured: not installed: No matching distribution found for ray" in page
    assert "| **Towline** | 100 µs (1.00x) | 20 µs (1.00x) |" in page
    assert "| mosec | 200 µs (2.0x) | 190 µs (9.5x) |" in page
    assert "| Tiny MLP, JSON over HTTP | start | mosec | 2.00x |" in page


def test_the_json_holds_every_row_and_says_which_were_measured(made, usual):
    document = json.loads(json.dumps(made.report.as_json(made.run(*usual), [])))

    assert [row["measured"] for row in document["rows"]] == [True, True, True, True, False]
    assert document["rows"][1]["load"]["64"]["cpu_us"] == 20


def test_the_readmes_show_ratios_only_and_when_and_where(made):
    eight = {1: 100, 8: 50, 64: 20}
    mosec = {1: 200, 8: 200, 64: 190}
    run = made.run(
        made.outcome("bare server", eight),
        made.outcome("mosec", mosec, rate=50),
        made.outcome("Towline", eight, rate=500, start_s=2.0),
        made.outcome("Ray Serve", {}, problem="no"),
    )
    block = made.report.readme_block(run, "bench/results/peers")

    assert block.splitlines()[2:5] == [
        "| **Towline** | 1.00x | 1.00x | 1.00x | 1.00x | 1.00x | 1.00x | 1.00x | 1.00x |",
        "| mosec | 2.0x | 4.0x | 9.5x | 0.10x | 2.0x | 0.50x | 1.00x | 1.00x |",
        "| Ray Serve | - | - | - | - | - | - | - | - |",
    ]
    assert "bare server" not in block
    assert block.endswith("2026-01-02 · a processor, 2 × CPU · Towline 0.1.0 · [peers.md](bench/results/peers/peers.md)")


def test_plots_are_well_formed_and_name_everyone_who_was_measured(made, usual):
    found = made.report.as_plots(made.run(*usual))

    assert sorted(found) == ["cpu-mlp-http-1.svg", "cpu-mlp-http-64.svg", "rate-mlp-http.svg"]
    for plot in found.values():
        texts = {node.text for node in ET.fromstring(plot).iter("{http://www.w3.org/2000/svg}text")}
        assert {"bare server", "Towline", "mosec", "mosec, batching"} <= texts
        assert "Ray Serve" not in texts


def test_a_longer_bar_is_a_larger_value_and_labels_do_not_cover_each_other(bench):
    plots = bench("plots")
    drawn = ET.fromstring(plots.bars("t", "µs", [plots.Bar("b", 2000, "peer"), plots.Bar("a", 20, "ours"), plots.Bar("c", 200, "floor")]))
    widths = [float(node.get("width")) for node in drawn.iter("{http://www.w3.org/2000/svg}rect") if node.get("rx")]
    assert widths == sorted(widths)
    assert widths[1] - widths[0] == pytest.approx(widths[2] - widths[1], abs=0.2)

    many = [plots.Line(f"line{number}", [(0, 100.0), (1, 100.0 + number)], "peer") for number in range(5)]
    drawn = ET.fromstring(plots.lines("t", "clients", ["1", "8"], many))
    heights = sorted(
        float(node.get("y")) for node in drawn.iter("{http://www.w3.org/2000/svg}text") if (node.text or "").startswith("line")
    )
    assert min(below - above for above, below in itertools.pairwise(heights)) >= 15.9


def test_names_in_plots_are_escaped(bench):
    plots = bench("plots")

    assert "a &lt;b&gt; &amp; c" in plots.bars("t", "µs", [plots.Bar("a <b> & c", 2, "peer")])
