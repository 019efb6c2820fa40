"""From what a route of conversion wrote to a candidate: copied as plain files, read as anything from outside is, and described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from towline.app.importing.given import Given
from towline.app.importing.proving import Asked
from towline.app.importing.sealing import Candidate
from towline.convert.base import Converted
from towline.convert.files import DEFAULT_MAX_BYTES, Copied, copy_source
from towline.convert.foreign.converter import BROKEN, Loaded
from towline.convert.made import ONNX_ENGINE, Made, default_of, unread
from towline.convert.onnx import inspect_model
from towline.convert.recognise import Recognised
from towline.convert.tree import copy_tree
from towline.core.errors import ImportRefused
from towline.core.manifest import Signature

# The way of an ONNX file that its owner converted, to be proven against its source.
GIVEN_ROUTE = "given"


class Maker:
    """Makes candidates of one source. `work` is a folder of the import's own, `digest` names the source."""

    def __init__(self, given: Given, found: Recognised, source: Asked, work: Path, digest: str) -> None:
        self._given = given
        self._found = found
        self._source = source
        self._work = work
        self._digest = digest

    def made(self, route: str, loaded: Loaded, staged: Path) -> Candidate:
        if route == GIVEN_ROUTE:
            copied = copy_source(self._given.model, staged)
            return self._onnx(copied, {default_of(loaded.signatures): copied.model_file}, loaded, Converted(files={}))
        folder, converted = self._source.convert(route)
        if set(converted.files) != set(loaded.signatures):
            raise ImportRefused(f"The route '{route}' made files for other signatures than there are.", code=BROKEN)
        taken = self._work / f"taken-{route}"
        # What the converter wrote belongs to code that nobody vouches for: copied as plain files before anything opens it.
        copy_tree(folder, taken, "taken", max_bytes=DEFAULT_MAX_BYTES)
        if converted.engine != ONNX_ENGINE:
            return self._framework(taken, converted, loaded, staged)
        default = default_of(loaded.signatures)
        copied = copy_source(_beneath(taken, converted.files[default]), staged)
        files = {default: copied.model_file}
        others = [name for name in loaded.signatures if name != default and converted.files[name] != converted.files[default]]
        for place, name in enumerate(others):
            own = staged / "signatures" / str(place)
            own.mkdir(parents=True, mode=0o755)
            files[name] = f"signatures/{place}/{copy_source(_beneath(taken, converted.files[name]), own).model_file}"
        return self._onnx(replace(copied, source_name=self._found.path.name), files, loaded, converted)

    def _onnx(self, copied: Copied, files: Mapping[str, str], loaded: Loaded, converted: Converted) -> Candidate:
        default = default_of(loaded.signatures)
        read = {name: inspect_model(copied.folder / file) for name, file in files.items()}
        # A file that its owner converted is one signature, whatever else the source has.
        wanted = loaded.signatures if converted.files else {default: loaded.signatures[default]}
        signatures = {name: (read.get(name) or read[default]).signature for name in wanted}
        made = self._origin(loaded, converted, signatures, {name: file for name, file in files.items() if name != default})
        return Candidate(copied, read[default], made, notes=converted.notes, layers=converted.layers)

    def _framework(self, taken: Path, converted: Converted, loaded: Loaded, staged: Path) -> Candidate:
        """A model that its own framework will run: files as they are, the signature as the source says it."""
        default = default_of(loaded.signatures)
        files = copy_tree(taken, staged / "model", "model", max_bytes=DEFAULT_MAX_BYTES)
        for name in converted.files.values():
            _beneath(taken, name)
        copied = Copied(staged, f"model/{converted.files[default]}", files, self._found.path.name)
        others = {name: f"model/{file}" for name, file in converted.files.items() if name != default}
        made = self._origin(loaded, converted, loaded.signatures, others)
        return Candidate(copied, unread(loaded.signatures[default], loaded.parameters), made, notes=converted.notes)

    def _origin(self, loaded: Loaded, converted: Converted, signatures: Mapping[str, Signature], files: Mapping[str, str]) -> Made:
        return Made(
            format=f"onnx, proven against {self._found.what}" if self._given.against else _without_article(self._found.what),
            source_digest=self._digest,
            engine=converted.engine,
            environment=converted.environment,
            signatures=dict(signatures),
            model_files=dict(files),
            tools=dict(loaded.facts),
            feature_defaults=loaded.feature_defaults,
        )


def _without_article(what: str) -> str:
    return what.removeprefix("a ").removeprefix("an ")


def _beneath(folder: Path, name: str) -> Path:
    """A file or folder of the copied tree, which holds no links."""
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts or not (folder / name).exists():
        raise ImportRefused("The process that reads the source named no file of its own; the source is not taken.", code=BROKEN)
    return folder / name
