"""What `serve` and `demo` were asked to do, parsed and checked. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from towline.core.config import Settings


@dataclass(frozen=True)
class TfServing:
    """What TF Serving's own flags ask for: a configuration file, read again every `poll_s` seconds (0: never), or one model; batching."""

    config_file: str = ""
    poll_s: float = 0.0
    model_name: str = "default"
    base_path: str = ""
    batching_file: str = ""
    loose_labels: bool = False


@dataclass(frozen=True)
class ServeOptions:
    """One `towline serve`.

    `refs` are model files, handlers and refs as they were typed; empty means: what the store deploys. `settings` are merged and
    within their ranges (host, ports, isolation, device, timeouts, limits); `origin` tells where each came from.
    `watch` are folders of numbered versions, `include` what handlers among the refs bring along, `python` what they run in. `force` loads
    a version even when its measured memory does not fit.
    `given` goes with the one model file among `refs`: labels and processing (absolute paths), preset (a name).
    """

    home: Path
    settings: Settings
    refs: tuple[str, ...] = ()
    watch: tuple[Path, ...] = ()
    force: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    include: tuple[Path, ...] = ()
    tfserving: TfServing = field(default_factory=TfServing)
    python: str = ""

    @property
    def host(self) -> str:
        return self.settings.host

    @property
    def port(self) -> int:
        return self.settings.port

    @property
    def grpc_port(self) -> int:
        return self.settings.grpc_port

    @property
    def drain_timeout_s(self) -> float:
        return self.settings.drain_timeout_s

    @property
    def isolation(self) -> str:
        return self.settings.isolation

    @property
    def device(self) -> str:
        return self.settings.device

    @property
    def insecure(self) -> bool:
        return self.settings.insecure


@dataclass(frozen=True)
class DemoOptions:
    """One `towline demo`. `once` ends it after the show. No port: a free one; no home: a temporary one that is removed."""

    once: bool = False
    port: int | None = None
    home: Path | None = None
