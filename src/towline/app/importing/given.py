"""What an owner gives to an import: the model, and everything that goes with it. Checked before a store is made or a folder staged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from towline.app.sources import check_file
from towline.convert.files import refuse_foreign
from towline.convert.recognise import Recognised, recognise
from towline.core.errors import UsageError
from towline.core.refs import clip

# Among the tools of a version's origin: the digest of the sample it was tried with, so that the same import is known again.
SAMPLE = "sample"
# That of its processing, as it was declared; and what a foreign source was read with.
PROCESSING = "processing"
OPTIONS = "options"


@dataclass(frozen=True)
class Given:
    """A model, and what its owner gave with it.

    `foreign` says what the model is, where it is no ONNX file; `against` what an ONNX file was converted from, to be proven equal to it.
    `options` go to the importer (convert/base.py: Task), `include` are files that an architecture's code needs. On `data`, which is
    labelled, both are measured.
    """

    model: Path
    labels: Path | None = None
    sample: Path | None = None
    processing: Path | None = None
    preset: str = ""
    fuse: bool = False
    include: tuple[Path, ...] = ()
    options: Mapping[str, str] = field(default_factory=dict)
    tolerance: float | None = None
    against: Path | None = None
    trust: bool = False
    foreign: Recognised | None = None
    data: Path | None = None

    @property
    def processing_digest(self) -> str | None:
        """What tells one declaration from another, before the graph it is for is known."""
        # Here and below, what most imports do without is loaded by those that need it: a server's first answer waits for every import.
        if self.processing is not None:
            from towline.convert.declaration import read_declaration

            return read_declaration(self.processing).digest() + self._fused
        return f"preset {self.preset}{self._fused}" if self.preset else None

    @property
    def _fused(self) -> str:
        return ", fused" if self.fuse else ""

    @property
    def sample_digest(self) -> str | None:
        return file_digest(self.sample) if self.sample is not None else None

    @property
    def origin(self) -> dict[str, str]:
        """What tells this import from another of the same source."""
        # Of code only its own name: where it lay says nothing of what it is, and its content is part of the source's digest.
        words = {name: value.rpartition("/")[2] if name == "arch" else value for name, value in self.options.items()}
        options = ", ".join(f"{name}={value}" for name, value in sorted(words.items()))
        digests = {SAMPLE: self.sample_digest, PROCESSING: self.processing_digest, OPTIONS: options}
        return {name: digest for name, digest in digests.items() if digest}


def checked(
    source: str | Path,
    labels: str | Path | None = None,
    sample: str | Path | None = None,
    processing: str | Path | None = None,
    preset: str = "",
    include: Sequence[str | Path] = (),
    *,
    fuse: bool = False,
    options: Mapping[str, str] | None = None,
    tolerance: float | None = None,
    against: str | Path | None = None,
    trust: bool = False,
    may_convert: bool = True,
    data: str | Path | None = None,
    foreign: Recognised | None = None,
) -> Given:
    """The paths, once each is known to be a plain file that can be read. Raises UsageError.

    `foreign` is what `source` is, where that is known; else it is looked at.
    `may_convert`: a source that is no ONNX file is recognised, to be converted; else convert/files.py says what it is and refuses it.
    """
    named = [Path(path) if path else None for path in (labels, sample, processing, against)]
    given = Given(
        Path(source),
        labels=named[0],
        sample=named[1],
        processing=named[2],
        preset=preset,
        fuse=fuse,
        include=tuple(map(Path, include)),
        options=dict(options or {}),
        tolerance=tolerance,
        against=named[3],
        trust=trust,
        foreign=foreign or (recognise(Path(source)) if may_convert else None),
        data=Path(data) if data else None,
    )
    if given.foreign is None:
        check_file(given.model, "a model file")
    _check_words(given)
    for path, what in (
        (given.labels, "a labels file"),
        (given.processing, "a processing declaration (TOML)"),
    ):
        if path is not None:
            check_file(path, what)
    if given.sample is not None and not given.sample.is_dir():
        check_file(given.sample, "a file with example inputs")
    if given.data is not None and not given.data.is_dir():
        check_file(given.data, "a file with labelled data")
    return given


def _check_words(given: Given) -> None:
    converts = given.foreign is not None or given.against is not None
    if "trust" in given.options:
        raise UsageError(
            "There is no option 'trust'.", code="UNKNOWN_OPTION", field="trust", hint="If you vouch for the file: --trust-this-file."
        )
    if given.include and not converts:
        raise UsageError("Only a handler brings files along.", code="USAGE", field="include", hint="What a model needs lies beside it.")
    if given.processing and given.preset:
        raise UsageError("Both a processing file and a preset were given.", hint="A preset is a whole declaration: give one of the two.")
    if given.fuse and not given.processing and not given.preset:
        raise UsageError("--fuse needs steps to fuse.", hint="Declare them: --processing FILE, or --preset imagenet.")
    if given.preset:
        _check_preset(given.preset)
    if given.foreign is not None and given.against is not None:
        raise UsageError(
            f"{given.model} is {given.foreign.what}, which is proven equal to itself.",
            code="USAGE",
            field="against",
            hint="--against goes with an ONNX file that you converted yourself.",
        )
    if given.options.get("input"):
        # Read by the importer, too; what is misspelt is told before a framework is started.
        from towline.convert.declared_inputs import parse_inputs

        parse_inputs(given.options["input"])
    told = (*given.options, *(["tolerance"] if given.tolerance is not None else []), *(["data"] if given.data is not None else []))
    if not converts and (told or given.trust):
        refuse_foreign(given.model)
        raise UsageError(
            f"{given.model} is read as an ONNX file, which is not converted: there is nothing to tell a converter and nothing to compare.",
            code="USAGE",
            field=told[0] if told else "trust_this_file",
            hint="Name what it was converted from: --against SOURCE.",
        )


def file_digest(path: Path) -> str:
    """`sha256:…` of a file, or of the names and contents of the files in a folder."""
    if path.is_dir():
        inner = "".join(f"{one.name} {file_digest(one)}\n" for one in sorted(path.iterdir()) if one.is_file())
        return "sha256:" + hashlib.sha256(inner.encode()).hexdigest()
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _check_preset(name: str) -> None:
    from towline.convert.presets import NAMES

    if name not in NAMES:
        raise UsageError(f"There is no preset '{clip(name)}'.", code="NO_SUCH_PRESET", hint=f"There is: {', '.join(NAMES)}.")
