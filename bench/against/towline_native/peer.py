"""Towline with its Rust gRPC server, from the `fast` extra."""

from __future__ import annotations

import dataclasses

from against.peer import Peer, Setting, Start
from against.towline.peer import PEER as TOWLINE
from against.towline.peer import start as start_towline


def start(setting: Setting) -> Start:
    plain = start_towline(setting)
    return dataclasses.replace(plain, command=[*plain.command, "--grpc", "native"])


PEER: Peer = dataclasses.replace(TOWLINE, name="Towline, --grpc native", folder="towline_native", start=start, requests={})
