"""What the bench knows of a server: how it starts, and what it wants to be asked. Each peer is a folder beside this file with its
record (peer.py), its application (app.py), and the versions that its environment gets (requirements.txt)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bodies import Dialect
from models import CNN, MLP, Model

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
HERE = Path(__file__).resolve().parent
# The same for all that batch: as many as half the clients of the heaviest load, and the shortest wait that all of them offer.
MAX_BATCH = {MLP: 32, CNN: 8}
MAX_WAIT_MS = 2


@dataclass(frozen=True)
class Setting:
    """One start: the python of the peer's environment, an empty folder of its own, ports that are free, batching on or off."""

    python: Path
    model: Model
    folder: Path
    port: int
    grpc_port: int
    other_port: int
    batching: bool = False

    @property
    def bin(self) -> Path:
        return self.python.parent

    @property
    def max_batch(self) -> int:
        return MAX_BATCH[self.model.name]


@dataclass(frozen=True)
class Start:
    """`prepare` are commands that are run before and are no part of the start's time; `command` becomes the server."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: tuple[list[str], ...] = ()


@dataclass(frozen=True)
class Request:
    path: str
    dialect: Dialect


# Peers are told apart by identity, so that rows of the table can be keys.
@dataclass(frozen=True, eq=False)
class Peer:
    """`folder` names its folder here and its environment; `requests` are by model. `grpc_path` is the method, empty when it has none,
    and `grpc_model` the name it knows the model by over gRPC, empty for the model's own. `sources` are its files outside its environment.
    `warm_s` is how long it has to be warmed up at least: a just-in-time compiler needs more than the others."""

    name: str
    folder: str
    packages: tuple[str, ...]
    start: Callable[[Setting], Start]
    requests: Mapping[str, Request]
    batches: bool = False
    grpc_path: str = ""
    grpc_model: str = ""
    note: str = ""
    sources: Path | None = None
    warm_s: int = 0

    @property
    def home(self) -> Path:
        return HERE / self.folder

    @property
    def requirements(self) -> Path:
        return self.home / "requirements.txt"


def environment(setting: Setting, folder: str) -> dict[str, str]:
    """What the applications read, through shared/served.py."""
    return {
        "MODEL": str(setting.model.path),
        "MAX_BATCH": str(setting.max_batch if setting.batching else 1),
        "MAX_WAIT_MS": str(MAX_WAIT_MS),
        "PORT": str(setting.port),
        "GRPC_PORT": str(setting.grpc_port),
        # One thread per library, as the servers get one core.
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": f"{HERE / folder}:{HERE / 'shared'}",
    }
