"""PyTorch itself: runs TorchScript and programs of torch.export that import saved, in the Python of its environment. Only in a worker."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from towline.core import dtypes
from towline.core.engine import EngineOptions
from towline.core.errors import EngineError, Kind, VersionError
from towline.core.manifest import Manifest, Signature
from towline.engines.wording import cleaned

# What PyTorch raises for an input that does not fit; the last are those of the Python that a program is made of.
_FAILURES = (RuntimeError, ValueError, TypeError, IndexError, KeyError, AssertionError, AttributeError, OSError, EOFError)
_MEMORY_WORDS = re.compile(r"can't allocate memory|not enough memory|out of memory|bad_alloc", re.IGNORECASE)
PROGRAM_SUFFIX = ".pt2"
_MAX_TABLE_BYTES = 256 << 20


class TorchEngine:
    name = "torch"

    def load(self, folder: Path, manifest: Manifest, options: EngineOptions) -> TorchSession:
        """Load the model file of a sealed folder. The caller has checked the digest."""
        if options.device not in self.devices():
            raise VersionError(
                f"Device '{options.device}' cannot be used: PyTorch has {', '.join(self.devices())} here.",
                code="NO_SUCH_DEVICE",
                hint="Use --device cpu, or an environment 'torch' with the PyTorch for this device.",
            )
        torch.set_num_threads(options.threads_per_run)
        try:
            models = {name: _loaded(folder / _file(manifest, name), options.device) for name in manifest.signatures}
        except _FAILURES as error:
            raise VersionError(f"PyTorch cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error
        return TorchSession(models, manifest, options.device)

    def describe(self, folder: Path, model_file: str) -> Signature:
        """Neither format tells the names of what a model gives: a version's signature is the one that import found by asking it."""
        raise EngineError("A file of PyTorch does not tell its signature.", code="NO_SIGNATURE", kind=Kind.UNSUPPORTED)

    def devices(self) -> tuple[str, ...]:
        return ("cpu", *(f"cuda:{place}" for place in range(torch.cuda.device_count())))


class TorchSession:
    """One model per signature. Several threads may run at once: PyTorch's models keep nothing of a run."""

    def __init__(self, models: Mapping[str, Callable[..., Any]], manifest: Manifest, device: str) -> None:
        self._models = models
        self._signatures = manifest.signatures
        self._default = manifest.signature_names[0]
        self._device = device

    def run(self, inputs: Mapping[str, np.ndarray], *, slot: int = 0, signature: str = "") -> Sequence[np.ndarray]:
        key = signature or self._default
        specs = self._signatures[key]
        try:
            with torch.inference_mode():
                answer = self._models[key](*(self._tensor(inputs[spec.name]) for spec in specs.inputs))
            return [_array(tensor, spec.dtype) for tensor, spec in zip(_tensors(answer), specs.outputs, strict=True)]
        except (*_FAILURES, MemoryError) as error:
            if isinstance(error, MemoryError) or _MEMORY_WORDS.search(str(error)):
                raise EngineError("The model ran out of memory on this input.", code="OUT_OF_MEMORY", kind=Kind.OUT_OF_MEMORY) from error
            raise EngineError(f"The model refused this input: {_last_line(error)}", code="ENGINE_REFUSED", kind=Kind.INVALID) from error

    def terminate(self, slot: int) -> None:
        """PyTorch has no way to stop a run from outside: one that does not end is ended with its worker."""

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        # A copy: a model may write into what it is given, and the memory of a request may only be read.
        return torch.from_numpy(np.array(array, order="C")).to(self._device)


def _file(manifest: Manifest, signature: str) -> str:
    return manifest.model_files.get(signature, manifest.model_file)


def _loaded(file: Path, device: str) -> Callable[..., Any]:
    if file.suffix != PROGRAM_SUFFIX:
        model: Callable[..., Any] = torch.jit.load(str(file), map_location=device).eval()
        return model
    check_plain(file)
    _name_a_place(file.parent)
    program = torch.export.load(str(file))
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    made: Callable[..., Any] = program.module()
    return made


def _name_a_place(folder: Path) -> None:
    """PyTorch's compiler wants folders for its caches as soon as it is imported, and writes none for a program that is only run.

    Behind walls nothing may be written: it is told one that is there.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(folder)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def check_plain(file: Path) -> None:
    """Raise VersionError for a program with anything pickled in it beside tensors: PyTorch's loader would run it.

    Import saves none; a file that has one was not saved by import.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if any(entry.file_size > _MAX_TABLE_BYTES for entry in entries if _is_table(entry.filename)):
                raise ValueError("one of its tables is too large")
            tables = [json.loads(archive.read(entry)) for entry in entries if _is_table(entry.filename)]
            pickled = [entry.filename for entry in entries if "/sample_inputs/" in entry.filename and entry.file_size > 0]
            for name in pickled:
                with archive.open(name) as inner:
                    torch.load(inner, weights_only=True)
    except _FAILURES as error:
        raise VersionError(f"PyTorch cannot load this model: {cleaned(error)}", code="LOAD_FAILED") from error
    except Exception as error:
        # zipfile.BadZipFile, or pickle.UnpicklingError, a module that nothing here imports.
        raise VersionError("The model's file is torn, or would run code when it is loaded.", code="LOAD_FAILED") from error
    for table in tables:
        for entry in table.get("config", {}).values():
            if entry.get("use_pickle") or not str(entry.get("path_name", "")).startswith(("weight_", "tensor_")):
                raise VersionError("The model's file would run code when it is loaded.", code="LOAD_FAILED")


def _is_table(name: str) -> bool:
    return name.endswith(("_weights_config.json", "_constants_config.json"))


def _tensors(answer: Any) -> Sequence[torch.Tensor]:
    return (answer,) if isinstance(answer, torch.Tensor) else tuple(answer)


def _array(tensor: torch.Tensor, dtype: str) -> np.ndarray:
    array = tensor.cpu().numpy()
    # A scalar stays one; numpy's ascontiguousarray would make it a row.
    whole = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    return whole.astype(dtypes.BY_NAME[dtype].numpy, copy=False)


def _last_line(error: BaseException) -> str:
    """TorchScript puts its code first and what went wrong last."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return cleaned(RuntimeError(lines[-1])) if lines else cleaned(RuntimeError(type(error).__name__))
