"""`make flame`: where the front's time goes for small JSON requests, as a flame graph with native frames, by py-spy. Linux, root.

python bench/flame.py [--clients 64] [--seconds 5] [--output bench/results/flame.svg]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import contender
import models
import processes
from against.towline.peer import PEER as TOWLINE

RESULTS = Path(__file__).resolve().parent / "results"
RATE_HZ = 500
FRONT = "towline-front"


def main() -> int:
    options = parse()
    recorder = Path(sys.executable).with_name("py-spy")
    if not recorder.exists():
        print("flame: py-spy is missing. Run: make flame", file=sys.stderr)
        return 2
    server, load = processes.cores()
    with tempfile.TemporaryDirectory(prefix="towline-flame-") as folder:
        model = models.write_mlp(Path(folder))
        with contender.started(TOWLINE, model, Path(sys.executable), Path(folder) / "server", cores=server) as one:
            command = [str(recorder), "record", "--native", "--rate", str(RATE_HZ), "--duration", str(options.seconds)]
            command += ["--output", str(options.output), "--pid", str(front_of(one.server))]
            # The load outlasts the recording: a second before, so that nothing is new, and a little after.
            driving = threading.Thread(target=lambda: one.drive(clients=options.clients, seconds=options.seconds + 2, cores=load))
            driving.start()
            code = subprocess.run(command, check=False).returncode
            driving.join()
    return code


def front_of(server: processes.Server) -> int:
    """The process of the server that answers."""
    return next(pid for pid in processes.members(server) if Path(f"/proc/{pid}/comm").read_text().strip() == FRONT)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=64, help="concurrent clients")
    parser.add_argument("--seconds", type=int, default=5, help="seconds to record")
    parser.add_argument("--output", type=Path, default=RESULTS / "flame.svg", help="the SVG to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
