"""`make bench-peers`: every peer of the catalogue beside Towline; a whole run is written to bench/results/peers/ and the READMEs."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import environments
import goals
import matrix
import mobilenet
import models
import peers_report
import report
import run
import standings
from against import catalogue
from matrix import GRPC, HTTP

RESULTS = run.RESULTS / "peers"
PROTOCOLS = {HTTP.lower(): HTTP, GRPC.lower(): GRPC}


def main() -> int:
    """0 when no figure is beyond twice its goal, 1 when one is, 2 when something needed is missing."""
    options = parse()
    for tool, package in set(run.TOOLS.values()):
        if shutil.which(tool) is None:
            print(f"bench-peers: {tool} is needed to make the load. Install it with: apt-get install {package}", file=sys.stderr)
            return 2
    chosen = [peer for peer in catalogue.PEERS if peer.folder in options.peers]
    places = {peer.folder: environments.ready(peer) for peer in chosen}
    if options.install_only:
        for peer in chosen:
            print(f"{peer.name:<26} {places[peer.folder].problem or places[peer.folder].versions}")
        return 0
    with tempfile.TemporaryDirectory(prefix="towline-peers-") as folder:
        made = {models.MLP: models.write_mlp(Path(folder)), models.CNN: mobilenet.write_cnn(Path(folder))}
        wanted = matrix.rows(chosen, options.models, [PROTOCOLS[name] for name in options.protocols])
        measured = matrix.measure(wanted, places, made, Path(folder), plan(options))
    found = standings.standings(measured)
    verdicts = goals.verdicts(standings.goal_figures(found), goals.PEER_GOALS)
    whole = is_whole(options)
    write(
        peers_report.Run(machine(options), found), verdicts, options.out or (RESULTS if whole else Path(tempfile.mkdtemp())), readmes=whole
    )
    return 1 if goals.has_failed(verdicts) else 0


def plan(options: argparse.Namespace) -> matrix.Plan:
    return matrix.Plan(
        clients={models.MLP: options.clients, models.CNN: options.image_clients},
        seconds={models.MLP: options.seconds, models.CNN: options.seconds},
        rounds={models.MLP: options.rounds, models.CNN: options.image_rounds},
        warm_s=options.warm,
    )


def write(run_of_peers: peers_report.Run, verdicts: Sequence[goals.Verdict], folder: Path, *, readmes: bool) -> None:
    text = peers_report.as_markdown(run_of_peers, verdicts)
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "peers.json").write_text(json.dumps(peers_report.as_json(run_of_peers, verdicts), indent=1) + "\n")
    (folder / "peers.md").write_text(text)
    for name, plot in peers_report.as_plots(run_of_peers).items():
        (folder / name).write_text(plot)
    print(f"bench-peers: written to {folder}", file=sys.stderr)
    if readmes:
        block = peers_report.readme_block(run_of_peers, folder.relative_to(run.ROOT).as_posix())
        for page in run.READMES:
            page.write_text(report.with_figures(page.read_text(), block, peers_report.PEERS_START, peers_report.PEERS_END))


def is_whole(options: argparse.Namespace) -> bool:
    """Only such a run is kept and shown: every peer, every table, as many rounds and seconds as by default or more."""
    default = parse([])
    same = all(
        set(getattr(options, name)) >= set(getattr(default, name)) for name in ("peers", "models", "protocols", "clients", "image_clients")
    )
    return same and all(getattr(options, name) >= getattr(default, name) for name in ("rounds", "image_rounds", "seconds", "warm"))


def machine(options: argparse.Namespace) -> dict[str, object]:
    known = run.hardware()
    rounds = f"{options.rounds} rounds ({options.image_rounds} of the image) of {options.seconds} s at each number of clients"
    return {**known, "rounds": f"{rounds}, after {options.warm} s of warm-up"}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    everyone = [peer.folder for peer in catalogue.PEERS]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", nargs="+", choices=everyone, default=everyone, help="who is measured; results are kept only of everyone")
    parser.add_argument("--models", nargs="+", choices=(models.MLP, models.CNN), default=[models.MLP, models.CNN])
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 32, 64], help="numbers of concurrent clients")
    parser.add_argument("--image-clients", nargs="+", type=int, default=[1, 8], help="the same for MobileNetV2")
    parser.add_argument("--rounds", type=int, default=2, help="times every server is started and visited")
    parser.add_argument("--image-rounds", type=int, default=1, help="the same for MobileNetV2")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of one visit at one number of clients")
    parser.add_argument("--warm", type=int, default=2, help="seconds of load after each start that are not counted")
    parser.add_argument("--out", type=Path, help="folder for the results; a whole run goes to bench/results/peers by default")
    parser.add_argument("--install-only", action="store_true", help="make the environments and measure nothing")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
