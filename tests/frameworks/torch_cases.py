"""Run by the environment 'torch': `python torch_cases.py SOURCES RESULTS` has the importer read, ask and convert each source.

In one process, since PyTorch takes seconds to start; what happens behind walls is the business of other tests. For each case it
writes RESULTS/CASE.json: the refusal, or what the source said of itself and how each route ended; and RESULTS/CASE.npz with arrays
named KIND/NAME.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from towline.convert.base import ConversionFailed, Source, Task
from towline.convert.torch import routes as routes_module
from towline.convert.torch.importer import TorchImporter
from towline.core.engine import EngineOptions
from towline.core.errors import TowlineError
from towline.core.manifest import Facts, Manifest, Measured, Origin, Signature, TensorSpec
from towline.engines.torch import TorchEngine
from towline.testing.engine_contract import check_engine

NETS = Path(__file__).parent / "torch_nets.py"
ONNX, ALL = ("torchscript", "dynamo"), ("torchscript", "dynamo", "torch", "torch-script")
# Case: file, kind, options, routes that are tried.
CASES: dict[str, tuple[str, str, dict[str, str], tuple[str, ...]]] = {
    "mlp": ("mlp.pth", "state_dict", {"arch": "Mlp"}, ("torchscript",)),
    "cnn": ("cnn.pth", "state_dict", {"arch": "Cnn", "input": "float32[N,3,H,W]"}, ONNX),
    "encoder": ("encoder.pth", "state_dict", {"arch": "Encoder"}, ("dynamo",)),
    "recurrent": (
        "recurrent.pth",
        "state_dict",
        {"arch": "Recurrent", "input": "x=float32[N,6],state.0=float32[N,8],state.1=float32[N,8]"},
        ("torchscript", "torch"),
    ),
    "spectrum": ("spectrum.pth", "state_dict", {"arch": "Spectrum"}, ONNX),
    "gamma": ("gamma.pth", "state_dict", {"arch": "Gamma"}, ALL),
    "branching": ("branching.pth", "state_dict", {"arch": "Branching"}, ALL),
    "fixed": ("cnn.pth", "state_dict", {"arch": "Cnn", "input": "pixels=float32[1,3,16,16]"}, ("torchscript",)),
    "safetensors": ("mlp.safetensors", "safetensors", {"arch": "Mlp"}, ("torchscript",)),
    "half": ("half.safetensors", "safetensors", {"arch": "Mlp"}, ("torchscript",)),
    "wrapped": ("wrapped.pth", "state_dict", {"arch": "Mlp"}, ("torchscript",)),
    "old": ("old.pth", "state_dict", {"arch": "Mlp"}, ("torchscript",)),
    "module": ("module.pt", "torch_module", {"arch": "Cnn"}, ("torchscript",)),
    "layers": ("layers.pt", "torch_module", {}, ("torchscript",)),
    "script": ("script.pt", "torchscript", {"input": "float32[N,3,16,16]"}, (*ONNX, "torch-script")),
    "traced": ("traced.pt", "torchscript", {}, ("torchscript",)),
    "branching-script": ("branching.pt", "torchscript", {}, ("torchscript", "torch-script")),
    "frozen": ("frozen.pt", "torchscript", {"input": "float32[N,10]"}, ("torchscript", "torch-script")),
    # With its weights in a file of their own, as those of a large model are.
    "beside": ("cnn.pth", "state_dict", {"arch": "Cnn", "input": "float32[N,3,16,16]"}, ("dynamo",)),
    "program": ("encoder.pt2", "torch_export", {}, ("dynamo", "torch")),
    "gamma-program": ("gamma.pt2", "torch_export", {}, ("dynamo", "torch")),
    "remembering": ("remembering.pth", "state_dict", {"arch": "Remembering"}, ()),
    "noisy": ("noisy.pth", "state_dict", {"arch": "Noisy"}, ()),
    "worded": ("worded.pth", "state_dict", {"arch": "Worded"}, ()),
    "no-code": ("mlp.pth", "state_dict", {}, ()),
    "no-module-code": ("module.pt", "torch_module", {}, ()),
    "lacking": ("lacking.pth", "state_dict", {"arch": "Mlp"}, ()),
    "classes": ("mlp.pth", "state_dict", {"arch": "Mlp(num_classes=3)"}, ()),
    "other": ("mlp.pth", "state_dict", {"arch": "Cnn"}, ()),
    "no-such-class": ("mlp.pth", "state_dict", {"arch": "Perceptron"}, ()),
    "argument": ("mlp.pth", "state_dict", {"arch": "Mlp(depth=3)"}, ()),
    "torchvision-name": ("mlp.pth", "state_dict", {"arch": "torchvision:resnet5000"}, ()),
    "two-inputs": ("recurrent.pth", "state_dict", {"arch": "Recurrent"}, ()),
    "wrong-name": ("mlp.pth", "state_dict", {"arch": "Mlp", "input": "pixels=float32[N,10]"}, ()),
    "wrong-size": ("mlp.pth", "state_dict", {"arch": "Mlp", "input": "float32[N,11]"}, ()),
    "option": ("mlp.pth", "state_dict", {"arch": "Mlp", "colour": "red"}, ()),
    "hostile": ("hostile.pth", "state_dict", {"arch": "Mlp"}, ()),
    "hostile-module": ("hostile.pt", "torch_module", {"arch": "Mlp"}, ()),
    "torn-script": ("torn-script.pt", "torchscript", {}, ()),
    "torn-program": ("torn-program.pt2", "torch_export", {}, ()),
}


def run(case: str, sources: Path, results: Path) -> None:
    file, kind, options, routes = CASES[case]
    given = dict(options)
    if "arch" in given and not given["arch"].startswith("torchvision"):
        given["arch"] = f"{NETS}:{given['arch']}"
    told: dict[str, Any] = {}
    routes_module.MAX_INLINE_BYTES = 0 if case == "beside" else 1 << 30
    try:
        source = TorchImporter().load(Task(sources / file, results, kind, given))
    except TowlineError as refusal:
        told["refused"] = {"code": refusal.code, "message": refusal.message, "hint": refusal.hint, "field": refusal.field}
    else:
        told |= describe(source)
        arrays = ask(source)
        told["converted"] = {route: convert(source, route, results / f"{case}-{route}", arrays) for route in routes}
        # Once more: a conversion must leave the model as it was.
        arrays |= {name.replace("answer/", "after/"): array for name, array in ask(source).items() if name.startswith("answer/")}
        np.savez(results / f"{case}.npz", **arrays)
    (results / f"{case}.json").write_text(json.dumps(told))


def describe(source: Source) -> dict[str, Any]:
    return {
        "signature": msgspec.to_builtins(source.signatures["serving_default"]),
        "facts": dict(source.facts),
        "parameters": source.parameters,
        "notes": list(source.notes),
        "routes": list(source.routes),
    }


def ask(source: Source) -> dict[str, np.ndarray]:
    """A request of three rows, its answer, and that of every layer."""
    signature = source.signatures["serving_default"]
    rng = np.random.default_rng(5)
    inputs = {}
    for spec in signature.inputs:
        shape = [dim if isinstance(dim, int) else 3 if dim == "N" else 12 for dim in spec.shape or ()]
        values = rng.normal(0, 1, shape) if spec.dtype.startswith("float") else rng.integers(0, 9, shape)
        inputs[spec.name] = values.astype(spec.dtype)
    found = {f"input/{name}": array for name, array in inputs.items()}
    found |= {f"answer/{name}": array for name, array in source.answer(inputs, signature="serving_default").items()}
    return found | {f"layer/{one.name}": one.output for one in source.layers(inputs, signature="serving_default")}


def convert(source: Source, route: str, into: Path, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    into.mkdir()
    try:
        converted = source.convert(route, into)
    except ConversionFailed as failure:
        return {"failed": failure.message}
    told = {"file": f"{into.name}/{converted.files['serving_default']}", "layers": dict(converted.layers), "notes": list(converted.notes)}
    if converted.engine == "torch":
        told["engine"] = engine_keeps_the_contract(source, into, converted.files["serving_default"], arrays)
    return told


def engine_keeps_the_contract(source: Source, folder: Path, file: str, arrays: dict[str, np.ndarray]) -> str:
    """What is wrong with the engine on this file, or nothing; its answer is added to `arrays`."""
    signature = source.signatures["serving_default"]
    origin, measured = Origin("torch", "sha256:0"), Measured("any", True, 0, 0, 8)
    manifest = Manifest(1, "torch", file, {"serving_default": signature}, True, origin, Facts(0, {}, {}), measured, environment="torch")
    inputs = {spec.name: arrays[f"input/{spec.name}"] for spec in signature.inputs}
    try:
        check_engine(TorchEngine(), folder, manifest, inputs)
    except AssertionError:
        return traceback.format_exc()
    session = TorchEngine().load(folder, manifest, EngineOptions())
    # With values large enough, of both signs, to take either way of code that branches.
    for factor in (1, 9, -9):
        asked = {name: array * np.float32(factor) if array.dtype.kind == "f" else array for name, array in inputs.items()}
        wanted = source.answer(asked, signature="serving_default")
        got = dict(zip(wanted, session.run(asked), strict=True))
        wrong = [name for name, array in wanted.items() if not np.allclose(got[name], array, atol=1e-5)]
        if wrong:
            return f"other answers at {', '.join(wrong)}"
    return ""


def refused_by_the_engine(file: Path) -> dict[str, str]:
    spec = TensorSpec("ids", "int64", ("N", 8))
    origin, measured = Origin("torch", "sha256:0"), Measured("any", True, 0, 0, 8)
    signatures = {"serving_default": Signature((spec,), (spec,))}
    manifest = Manifest(1, "torch", file.name, signatures, True, origin, Facts(0, {}, {}), measured, environment="torch")
    try:
        TorchEngine().load(file.parent, manifest, EngineOptions())
    except TowlineError as refusal:
        return {"code": refusal.code, "message": refusal.message}
    return {}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for one in CASES:
        run(one, Path(sys.argv[1]), Path(sys.argv[2]))
    (Path(sys.argv[2]) / "evil.json").write_text(json.dumps(refused_by_the_engine(Path(sys.argv[1]) / "evil.pt2")))
