"""NVIDIA Triton: the tritonserver binary that the nvidia-pytriton wheel holds, with a model repository and its Python backend."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

import bodies
from against.peer import HERE, MAX_WAIT_MS, MODEL_INFER, Peer, Request, Setting, Start, environment
from models import CNN, MLP

MODEL = "m"
PATH = f"/v2/models/{MODEL}/infer"


def start(setting: Setting) -> Start:
    (site,) = (setting.bin.parent / "lib").glob("python3*/site-packages")
    server = site / "pytriton" / "tritonserver"
    backends = _backends(setting, server, site.parent.name)
    repository = _repository(setting)
    addresses = [flag for name in ("http", "grpc", "metrics") for flag in (f"--{name}-address", "127.0.0.1")]
    ports = ["--http-port", str(setting.port), "--grpc-port", str(setting.grpc_port), "--metrics-port", str(setting.other_port)]
    folders = ["--model-repository", str(repository), "--backend-directory", str(backends), "--cache-directory", str(server / "caches")]
    libraries = [sysconfig.get_config_var("LIBDIR"), site / "nvidia_pytriton.libs", server / "lib"]
    own = environment(setting, "triton")
    return Start(
        [str(server / "bin" / "tritonserver"), *folders, *addresses, *ports, "--allow-gpu-metrics", "false"],
        {
            **own,
            # The backend starts a python of its own: it finds the environment's packages and the interpreter's library here.
            "LD_LIBRARY_PATH": ":".join(str(folder) for folder in libraries),
            "PYTHONPATH": f"{own['PYTHONPATH']}:{site}",
            "PATH": f"{setting.bin}:/usr/local/bin:/usr/bin:/bin",
        },
    )


def _backends(setting: Setting, server: Path, python: str) -> Path:
    """A copy of the backends, with the stub for this version of Python (its folder's name without "python") beside them."""
    backends = setting.folder / "backends"
    shutil.copytree(server / "backends", backends)
    for stub in (server / "python_backend_stubs" / python.removeprefix("python")).glob("*"):
        shutil.copy(stub, backends / "python")
    return backends


def _repository(setting: Setting) -> Path:
    version = setting.folder / "repository" / MODEL / "1"
    version.mkdir(parents=True)
    shutil.copy(PEER.home / "app.py", version / "model.py")
    shutil.copy(HERE / "shared" / "served.py", version)
    (version.parent / "config.pbtxt").write_text(_config(setting))
    return version.parents[1]


def _config(setting: Setting) -> str:
    dims = ", ".join(str(size) for size in setting.model.shape)
    batching = f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_WAIT_MS * 1000} }}" if setting.batching else ""
    return f"""name: "{MODEL}"
backend: "python"
max_batch_size: {setting.max_batch if setting.batching else 1}
input [ {{ name: "x", data_type: TYPE_FP32, dims: [ {dims} ] }} ]
output [ {{ name: "y", data_type: TYPE_FP32, dims: [ {setting.model.classes} ] }} ]
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]
{batching}
"""


PEER = Peer(
    name="Triton (Python backend)",
    folder="triton",
    packages=("nvidia-pytriton",),
    start=start,
    requests={MLP: Request(PATH, bodies.open_inference), CNN: Request(PATH, bodies.open_inference_binary)},
    batches=True,
    grpc_path=MODEL_INFER,
    grpc_model=MODEL,
)
