"""Tell from its first bytes whether a file is what a model's processing reads, and not too large, before it is queued. Pure.

The worker decodes. Here only headers are read, so that a picture of a billion pixels is refused at the price of a look.
"""

from __future__ import annotations

from towline.core import picture
from towline.core.errors import InvalidRequest, Kind
from towline.core.manifest import Manifest

IMAGE, AUDIO, TEXT, TABULAR = "image", "audio", "text", "tabular"
# Where a JPEG's size is looked for. Behind more than this of preamble the worker finds it, which checks again.
_HEADER_BYTES = 128 << 10
# What people send although no step reads it, so that they are told what it is.
_FOREIGN = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "an EPS"),
    (b"II*\0", "a TIFF"),
    (b"MM\0*", "a TIFF"),
    (b"SIMPLE  =", "a FITS file"),
    (b"fLaC", "a FLAC file"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3"),
    (b"\xff\xfb", "an MP3"),
    (b"\0\0\0\x0cjP", "a JPEG 2000"),
)
_MARKUP = (b"<svg", b"<?xml", b"<!DOCTYPE", b"<html")
_READ = {IMAGE: "a JPEG, PNG, WebP, BMP or GIF picture", AUDIO: "a WAV file"}


def kinds_of(manifest: Manifest) -> dict[str, str]:
    """Input name -> image, audio, text or tabular, for the inputs that the version's processing reads."""
    found: dict[str, str] = {}
    for step in manifest.processing.before:
        if step.kind == TABULAR:
            columns = step.settings.get("columns", [])
            found |= {str(column): TABULAR for column in columns} if isinstance(columns, list | tuple) else {}
        elif step.kind in (IMAGE, AUDIO, TEXT):
            found[str(step.settings.get("name", step.kind))] = step.kind
    return found


def check(kind: str, content: bytes, field: str, max_image_pixels: int) -> None:
    """Raise InvalidRequest unless `content` may be of `kind`. Text and rows of tables are the worker's to judge."""
    if kind == IMAGE:
        _check_picture(content, field, max_image_pixels)
    elif kind == AUDIO and not (content.startswith(b"RIFF") and content[8:12] == b"WAVE"):
        raise _not_a(AUDIO, content, field)


def _check_picture(content: bytes, field: str, max_pixels: int) -> None:
    seen = picture.look(content[:_HEADER_BYTES])
    if seen is None:
        raise _not_a(IMAGE, content, field)
    if not seen.pixels and not (seen.format == "JPEG" and len(content) > _HEADER_BYTES):
        raise InvalidRequest(f"{field} is a damaged {seen.format}: its header tells no size.", code="BAD_IMAGE", field=field)
    if seen.pixels > max_pixels:
        raise InvalidRequest(
            f"{field} has {seen.width} x {seen.height} pixels; at most {max_pixels} are taken.",
            code="IMAGE_TOO_LARGE",
            kind=Kind.TOO_LARGE,
            field=field,
            hint="Send a smaller one, or raise the setting max_image_pixels.",
        )


def _not_a(kind: str, content: bytes, field: str) -> InvalidRequest:
    hint = f"Send {_READ[kind]} as it is."
    foreign = _foreign(content) if kind == IMAGE or not picture.look(content[:32]) else "a picture"
    if foreign:
        return InvalidRequest(
            f"{field} is {foreign}, which is not read.", code="UNSUPPORTED_MEDIA_TYPE", kind=Kind.UNSUPPORTED_MEDIA, field=field, hint=hint
        )
    what = "is empty" if not content else f"is not {_READ[kind]}"
    return InvalidRequest(f"{field} {what}.", code=f"BAD_{kind.upper()}", field=field, hint=hint if content else "")


def _foreign(content: bytes) -> str:
    if content[:256].lstrip().startswith(_MARKUP):
        return "markup such as SVG"
    return next((name for magic, name in _FOREIGN if content.startswith(magic)), "")
