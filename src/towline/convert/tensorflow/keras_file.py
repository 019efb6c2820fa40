"""The files of Keras, `.keras` and `.h5`: read what they say, and write a copy without wrappers, before Keras opens either."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from towline.convert import wording
from towline.core.errors import ImportRefused

MAX_CONFIG_BYTES = 256 << 20
MAX_UNPACKED_BYTES = 32 << 30
_PARTS = ("config.json", "metadata.json", "model.weights.h5")
# What wrappers keep beside the weights of the layer that they wrap.
_WRAPPERS_OWN = ("mask", "threshold", "pruning_step", "optimizer_step", "unquantized_kernel", "step")


def config_of_archive(path: Path) -> dict[str, Any]:
    """The config in a `.keras` file. Raises ImportRefused for an archive that Keras would not have written."""
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(archive)
            return _parsed(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        said = wording.sentence(f"{error}", hidden=(str(path),))
        raise ImportRefused(f"The .keras file is damaged: {said}", code="TORN_FILE", hint="Copy, download or save it again.") from error


def _check_entries(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    for name in names:
        if name not in _PARTS and not (name.startswith("assets/") and ".." not in name.split("/")):
            raise ImportRefused(f"The .keras file holds {wording.name(name)}, which Keras does not write.", code="ARCHIVE_ENTRY")
    if len(set(names)) != len(names):
        raise ImportRefused("The .keras file holds two entries of one name.", code="ARCHIVE_ENTRY")
    if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES or archive.getinfo("config.json").file_size > MAX_CONFIG_BYTES:
        raise ImportRefused("The .keras file is too large when unpacked.", code="ARCHIVE_TOO_LARGE")


def config_of_hdf5(path: Path) -> dict[str, Any] | None:
    """The config in a `.h5` file, None where it holds weights only. Raises ImportRefused for one that leads to other files."""
    try:
        with h5py.File(path, "r") as file:
            check_links(file)
            raw = file.attrs.get("model_config")
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        said = wording.sentence(f"{error}", hidden=(str(path),))
        raise ImportRefused(f"The HDF5 file is damaged: {said}", code="TORN_FILE", hint="Copy, download or save it again.") from error
    return None if raw is None else _parsed(raw)


def check_links(group: Any, depth: int = 0) -> None:
    """Everything in it lies in it: no link to another file, no values kept elsewhere."""
    if depth > 64:
        raise ImportRefused("The file's groups lie too deep in one another.", code="LIMIT_EXCEEDED")
    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink | h5py.SoftLink):
            raise ImportRefused(
                f"The file's {wording.name(name)} is a link to somewhere else, which Keras does not write.", code="EXTERNAL_DATA_LINK"
            )
        inner = group[name]
        if isinstance(inner, h5py.Group):
            check_links(inner, depth + 1)
        elif getattr(inner, "external", None) or getattr(inner, "is_virtual", False):
            raise ImportRefused(f"The values of {wording.name(name)} are kept in another file.", code="EXTERNAL_DATA_LINK")


def _parsed(raw: bytes | str) -> dict[str, Any]:
    try:
        config = json.loads(raw)
    except (ValueError, RecursionError):
        raise ImportRefused("The file's description of the model is no JSON.", code="TORN_FILE", hint="Save the model again.") from None
    if not isinstance(config, dict) or not isinstance(config.get("class_name"), str):
        raise ImportRefused("The file's description of the model is not one of Keras'.", code="BAD_CONFIG", hint="Save the model again.")
    return config


def rewrite_archive(path: Path, config: Mapping[str, Any], into: Path) -> None:
    """A copy of a `.keras` file with another config."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(into, "w") as copy:
        for entry in archive.infolist():
            if entry.filename == "config.json":
                copy.writestr("config.json", json.dumps(config))
                continue
            with archive.open(entry) as source, copy.open(entry.filename, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)


def rewrite_hdf5(path: Path, config: Mapping[str, Any], stripped: Mapping[str, str], into: Path) -> None:
    """A copy of a `.h5` file with another config, and without the wrappers' own values."""
    shutil.copyfile(path, into)
    with h5py.File(into, "r+") as file:
        file.attrs["model_config"] = json.dumps(config)
        for layer, kind in stripped.items():
            group = file.get(f"model_weights/{layer}")
            if group is not None and "weight_names" in group.attrs:
                names = [] if kind == "QuantizeLayer" else [name for name in group.attrs["weight_names"] if not _is_wrappers(name)]
                group.attrs["weight_names"] = names


def _is_wrappers(name: bytes | str) -> bool:
    last = (name.decode() if isinstance(name, bytes) else name).rpartition("/")[2].partition(":")[0]
    return last in _WRAPPERS_OWN or last.endswith(("_min", "_max"))
