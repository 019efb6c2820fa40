"""`make bench`: measure against the floor and the peers, compare with the goals, write bench/results/ and the READMEs' table."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import bystander
import commands
import goals
import grpc_load
import http_load
import image_load
import large_json
import mobilenet
import models
import overload
import report
from contender import NotMeasured

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results"
READMES = (ROOT / "README.md", ROOT / "README.zh-CN.md")
SCENARIOS = ("load", "grpc", "image", "start", "commands", "overload", "bystander")
PACKAGES = ("towline", "onnxruntime", "numpy", "uvicorn", "uvloop")
PEER_PACKAGES = ("fastapi", "flask", "grpcio", "gunicorn", "onnxruntime", "uvicorn")
GRPC_CLIENTS, GRPC_ROUNDS = (1, 64), 3
# What makes the load, and the Debian package that holds it.
TOOLS = {"load": ("wrk", "wrk"), "image": ("wrk", "wrk"), "grpc": ("h2load", "nghttp2-client")}


def main() -> int:
    """0 when no figure is beyond twice its goal, 1 when one is or a server does not start, 2 when something needed is missing."""
    options = parse()
    needed = missing(options)
    if needed:
        print(needed, file=sys.stderr)
        return 2
    try:
        with tempfile.TemporaryDirectory(prefix="towline-bench-") as folder:
            measured = measure(Path(folder), options)
    except NotMeasured as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    found = goals.verdicts(report.figures_of(measured))
    text = report.as_markdown(measured, found)
    print(text)
    if set(options.only) == set(SCENARIOS) or options.write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "latest.json").write_text(json.dumps(report.as_json(measured, found), indent=1) + "\n")
        (RESULTS / "latest.md").write_text(text)
    if set(options.only) == set(SCENARIOS):
        for page in READMES:
            page.write_text(report.with_figures(page.read_text(), report.readme_table(measured)))
    if goals.has_failed(found):
        print(f"bench: at least one figure is beyond {goals.FAILS_BEYOND:g} times its goal.", file=sys.stderr)
        return 1
    return 0


def measure(folder: Path, options: argparse.Namespace) -> report.Measured:
    only, peers, model = options.only, options.peers / "bin" / "python", models.write_mlp(folder)
    load, floor_us = {}, []
    if "load" in only:
        load, floor_us = http_load.measure(model, folder, peers, options.clients, options.rounds, options.seconds)
    return report.Measured(
        machine=machine(options),
        load=load,
        floor_us=floor_us,
        grpc=grpc_load.measure(model, folder, peers, GRPC_CLIENTS, min(options.rounds, GRPC_ROUNDS), options.seconds)
        if "grpc" in only
        else {},
        image=image_load.measure(mobilenet.write_cnn(folder), folder, options.rounds, options.seconds) if "image" in only else None,
        start=commands.start_to_first_answer(model, folder) if "start" in only else None,
        commands=commands.cold_commands(model) if "commands" in only else {},
        overload=overload.measure() if "overload" in only else {},
        bystander={**bystander.measure(), **large_json.measure()} if "bystander" in only else {},
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="what to measure; writes nothing down unless whole"
    )
    parser.add_argument("--write", action="store_true", help="write the results of a partial run down as well")
    parser.add_argument("--clients", nargs="+", type=int, default=[1, 8, 64], help="numbers of concurrent clients")
    parser.add_argument("--rounds", type=int, default=5, help="times every server is visited")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of one visit")
    parser.add_argument("--peers", type=Path, default=Path(".venv-bench"), help="environment with the peers (make bench makes it)")
    options = parser.parse_args()
    # The virtual environment's python must stay a path inside it, so it is made absolute and not resolved.
    options.peers = options.peers.absolute()
    return options


def missing(options: argparse.Namespace) -> str:
    """What has to be installed first; empty when nothing has."""
    for scenario in options.only:
        tool, package = TOOLS.get(scenario, ("", ""))
        if tool and shutil.which(tool) is None:
            return f"bench: {tool} is needed to make the load. Install it with: apt-get install {package}"
    if {"load", "grpc"} & set(options.only) and not (options.peers / "bin" / "python").exists():
        return f"bench: {options.peers} has no Python with the peers. Run: make bench"
    return ""


def machine(options: argparse.Namespace) -> dict[str, Any]:
    peers = sorted((options.peers / "lib").glob("python3*/site-packages"))
    return {
        **hardware(),
        "rounds": f"{options.rounds} rounds of {options.seconds} s",
        "peers": {
            found.name: found.version
            for found in importlib.metadata.distributions(path=[str(path) for path in peers])
            if found.name.lower() in PEER_PACKAGES
        },
    }


def hardware() -> dict[str, Any]:
    """This machine and what Towline runs on, today."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpu": next(names, "an unnamed processor"),
        "cores": len(os.sched_getaffinity(0)),
        "python": sys.version.split()[0],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


if __name__ == "__main__":
    sys.exit(main())
