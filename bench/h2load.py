"""Load over gRPC by h2load: one message over and over, on at most eight connections."""

from __future__ import annotations

import os
import re
import struct
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import processes
from models import Model
from wrk import Sample

# As clients do: more calls at once on a connection rather than more connections.
MOST_CONNECTIONS = 8
_COUNTS = re.compile(r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
_DATA = re.compile(r"headers \(space savings [^)]*\), \S+ \((\d+)\) data")
_RATE = re.compile(r"finished in [^,]+, ([\d.]+) req/s")


def drive(
    server: processes.Server, url: str, call: Path, answer_bytes: int, *, clients: int, seconds: int, cores: set[int], log: Path
) -> Sample:
    """`call` is a file with one framed message; `answer_bytes` is the size of the right answer, framed."""
    log.unlink(missing_ok=True)
    connections = min(clients, MOST_CONNECTIONS)
    shape = [
        "-t1",
        f"-c{connections}",
        f"-m{clients // connections}",
        f"-D{seconds}",
        "-d",
        str(call),
        "--log-file",
        str(log),
    ]
    before_us = processes.cpu_us(server)
    done = subprocess.run(
        ["h2load", *shape, "-H", "content-type: application/grpc", "-H", "te: trailers", url],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    used_us = processes.cpu_us(server) - before_us
    return sample(done.stdout, log.read_text().splitlines(), used_us, answer_bytes)


def sample(printed: str, log: Iterable[str], used_us: float, answer_bytes: int) -> Sample:
    """What h2load printed and logged. A refusal of gRPC is a 200 without a message, so answers are told by the bytes they brought."""
    counts, data, rate = _COUNTS.search(printed), _DATA.search(printed), _RATE.search(printed)
    if counts is None or data is None or rate is None:
        raise SystemExit(f"h2load printed something else than expected:\n{printed}")
    _, done, _, failed, errored, timed_out = (int(text) for text in counts.groups())
    answered = min(int(data[1]) // answer_bytes, done)
    took_us = sorted(_latencies_us(log)) or [0]
    return Sample(
        cpu_us=used_us / max(answered, 1),
        requests_per_s=float(rate[1]) * answered / max(done, 1),
        p50_us=took_us[len(took_us) // 2],
        p99_us=took_us[len(took_us) * 99 // 100],
        failed=done - answered + failed + errored + timed_out,
    )


def _latencies_us(log: Iterable[str]) -> Iterator[int]:
    """Lines of: start in microseconds, status, microseconds until the answer."""
    for line in log:
        _, status, took_us = line.split()
        if status == "200":
            yield int(took_us)


def model_infer(name: str, model: Model) -> bytes:
    """A serialised inference.ModelInferRequest with the model's row in raw_input_contents."""
    packed = b"".join(_varint(size) for size in (1, *model.shape))
    tensor = _field(1, b"x") + _field(2, b"FP32") + _field(3, packed)
    return _field(1, name.encode()) + _field(5, tensor) + _field(7, model.row.tobytes())


def framed(message: bytes) -> bytes:
    """A message as gRPC sends it: not compressed, its length, itself."""
    return b"\0" + struct.pack(">I", len(message)) + message


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
