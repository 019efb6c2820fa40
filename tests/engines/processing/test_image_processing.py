"""Encoded pictures become the pixels that the documented rules say, or an error that names the row."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processed import Processed, load

from towline.core.errors import EngineError, Kind
from towline.testing import tiny_models

PIXELS = tiny_models.identity("uint8", ("N", "H", "W", 3))
GREY_PIXELS = tiny_models.identity("uint8", ("N", "H", "W", 1))
RED, GREEN, BLUE = (200, 10, 20), (10, 190, 30), (15, 25, 180)


def encoded(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    place = io.BytesIO()
    picture.save(place, kind, **options)
    return place.getvalue()


def stripes() -> Image.Image:
    """Three pixels wide, two high: red, green, blue; then blue, green, red."""
    return Image.fromarray(np.array([[RED, GREEN, BLUE], [BLUE, GREEN, RED]], np.uint8))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Processed:
    return load(tmp_path_factory.mktemp("pixels"), PIXELS, '[[before]]\nstep = "image"\nmax_pixels = 4096\n')


def read(pixels: Processed, raw: bytes) -> list:
    return pixels.run(image=[raw])["y"][0].tolist()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_formats_without_loss_give_the_pixels_themselves(pixels: Processed, kind: str) -> None:
    assert read(pixels, encoded(stripes(), kind)) == np.asarray(stripes()).tolist()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_formats_with_loss_come_close(pixels: Processed, kind: str) -> None:
    plain = Image.new("RGB", (16, 16), RED)

    assert np.abs(np.array(read(pixels, encoded(plain, kind, quality=95))) - RED).max() <= 3


def with_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stripes(), "PNG", exif=exif)


@pytest.mark.parametrize(
    ("orientation", "shown"),
    [
        (1, [[RED, GREEN, BLUE], [BLUE, GREEN, RED]]),
        (3, [[RED, GREEN, BLUE], [BLUE, GREEN, RED]]),
        (2, [[BLUE, GREEN, RED], [RED, GREEN, BLUE]]),
        (6, [[BLUE, RED], [GREEN, GREEN], [RED, BLUE]]),
        (8, [[BLUE, RED], [GREEN, GREEN], [RED, BLUE]]),
    ],
)
def test_a_picture_is_turned_as_its_exif_orientation_says(pixels: Processed, orientation: int, shown: list) -> None:
    assert read(pixels, with_exif(orientation)) == [[list(pixel) for pixel in row] for row in shown]


def test_rotation_can_be_declared_off(tmp_path: Path) -> None:
    as_stored = load(tmp_path, PIXELS, '[[before]]\nstep = "image"\nrotate = false\n')

    assert read(as_stored, with_exif(6)) == np.asarray(stripes()).tolist()


def sixteen_bits() -> bytes:
    """A grey PNG of 16 bits: 0x1234 and 0xfedc."""
    return encoded(Image.fromarray(np.array([[0x1234, 0xFEDC]], np.uint16)))


def palette_with_alpha() -> bytes:
    picture = Image.new("P", (2, 1))
    picture.putpalette([*RED, *BLUE])
    picture.putdata([0, 1])
    return encoded(picture, transparency=bytes([255, 0]))


def see_through() -> Image.Image:
    return Image.fromarray(np.array([[(*RED, 255), (*BLUE, 0)]], np.uint8))


@pytest.mark.parametrize(
    ("what", "raw", "shown"),
    [
        ("greyscale is one value thrice", encoded(Image.new("L", (1, 1), 77)), [[[77] * 3]]),
        ("one bit is black or white", encoded(Image.new("1", (1, 1), 1)), [[[255] * 3]]),
        ("16 bits keep their high byte", sixteen_bits(), [[[0x12] * 3, [0xFE] * 3]]),
        ("alpha is dropped, the colour under it stays", encoded(see_through()), [[list(RED), list(BLUE)]]),
        ("so it is from a palette", palette_with_alpha(), [[list(RED), list(BLUE)]]),
        ("grey with alpha", encoded(Image.new("LA", (1, 1), (90, 0))), [[[90] * 3]]),
        ("a single pixel", encoded(Image.new("RGB", (1, 1), GREEN)), [[list(GREEN)]]),
    ],
)
def test_every_kind_of_pixel_is_read_by_its_rule(pixels: Processed, what: str, raw: bytes, shown: list) -> None:
    assert read(pixels, raw) == shown, what


def test_cmyk_is_read_by_pillows_formula(pixels: Processed) -> None:
    raw = encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=100)

    red, green, blue = read(pixels, raw)[4][4]
    assert red > 250
    assert green < 5
    assert blue < 5


def test_a_background_shows_through_where_one_is_declared(tmp_path: Path) -> None:
    over_green = load(tmp_path, PIXELS, f'[[before]]\nstep = "image"\nbackground = {list(GREEN)}\n')

    assert read(over_green, encoded(see_through())) == [[list(RED), list(GREEN)]]
    assert read(over_green, palette_with_alpha()) == [[list(RED), list(GREEN)]]


def test_of_an_animation_the_first_frame_counts(pixels: Processed) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, BLUE)]

    for kind in ("GIF", "WEBP", "PNG"):
        raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {}))
        assert np.array(read(pixels, raw))[0, 0].tolist() == list(RED), kind


def test_colours_may_be_asked_for_in_another_order_or_as_grey(tmp_path: Path) -> None:
    raw = encoded(Image.new("RGB", (1, 1), RED))

    assert read(load(tmp_path, PIXELS, '[[before]]\nstep = "image"\ncolour = "bgr"\n'), raw) == [[list(reversed(RED))]]
    # 0.299 red + 0.587 green + 0.114 blue
    assert read(load(tmp_path, GREY_PIXELS, '[[before]]\nstep = "image"\ncolour = "grey"\n'), raw) == [[[68]]]


def torn(raw: bytes) -> bytes:
    return raw[: len(raw) * 2 // 3]


def noise(side: int = 32) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


def empty_png() -> bytes:
    """A PNG whose header says 0 x 0."""
    head = struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content)) for kind, content in chunks
    )


@pytest.mark.parametrize(
    ("what", "raw"),
    [
        ("nothing", b""),
        ("text", b"a picture of a cat"),
        ("a torn JPEG", torn(encoded(noise(), "JPEG"))),
        ("a torn PNG", torn(encoded(noise()))),
        ("a torn WebP", torn(encoded(noise(), "WEBP"))),
        ("a torn BMP", torn(encoded(noise(), "BMP"))),
        ("a JPEG's first bytes", b"\xff\xd8\xff"),
        ("a PNG's first bytes", b"\x89PNG\r\n\x1a\n"),
        ("a PNG of no pixels", empty_png()),
        ("a PNG with a damaged middle", encoded(noise()).replace(b"IDAT", b"IDAX", 1)),
        ("SVG", b'<svg xmlns="http://www.w3.org/2000/svg"/>'),
        ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 2 2\n"),
        ("TIFF", encoded(noise(), "TIFF")),
        ("FITS", b"SIMPLE  =                    T" + b" " * 2850),
        ("PDF", b"%PDF-1.7\n"),
    ],
)
def test_what_is_no_whole_picture_is_refused_by_its_row(pixels: Processed, what: str, raw: bytes) -> None:
    good = encoded(stripes())

    with pytest.raises(EngineError, match=r"^image\[1\] is ") as caught:
        pixels.run(image=[good, raw])

    assert caught.value.code == "BAD_IMAGE", what
    assert caught.value.kind is Kind.INVALID
    assert len(caught.value.message) < 200


def test_a_bomb_is_refused_by_its_header_and_never_decoded(pixels: Processed, monkeypatch: pytest.MonkeyPatch) -> None:
    bombs = [encoded(Image.new("L", (65, 64)), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP")]
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a bomb was opened"))

    for bomb in bombs:
        with pytest.raises(EngineError, match="65 x 64 pixels; at most 4096") as caught:
            pixels.run(image=[bomb])
        assert (caught.value.code, caught.value.kind) == ("IMAGE_TOO_LARGE", Kind.TOO_LARGE)


def test_only_the_decoder_of_the_format_that_was_seen_is_tried(pixels: Processed, monkeypatch: pytest.MonkeyPatch) -> None:
    tried, real = [], Image.open
    monkeypatch.setattr(Image, "open", lambda *words, **more: tried.append(more["formats"]) or real(*words, **more))

    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        read(pixels, encoded(stripes(), kind))

    assert tried == [("PNG",), ("JPEG",), ("GIF",), ("BMP",), ("WEBP",)]


def test_a_gif_whose_frame_outgrows_its_screen_is_held_to_the_limit_too(pixels: Processed) -> None:
    raw = bytearray(encoded(Image.new("L", (65, 64)), "GIF"))
    raw[6:10] = struct.pack("<HH", 1, 1)

    with pytest.raises(EngineError, match="pixels; at most 4096"):
        pixels.run(image=[bytes(raw)])


STEPS = """
[[before]]
step = "image"

[[before]]
step = "resize"
shorter = 256

[[before]]
step = "crop"
width = 224
height = 224
"""


@pytest.mark.parametrize("size", [(640, 480), (480, 641), (300, 257), (224, 224), (37, 23)])
def test_resize_and_crop_are_those_of_torchvision(tmp_path: Path, size: tuple[int, int]) -> None:
    """torchvision: Resize(256) gives the longer side int(256 * longer / shorter), CenterCrop int(round((h - 224) / 2))."""
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    width, height = (256, int(256 * size[1] / size[0])) if size[0] <= size[1] else (int(256 * size[0] / size[1]), 256)
    left, top = round((width - 224) / 2.0), round((height - 224) / 2.0)
    expected = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + 224, top + 224)))

    got = load(tmp_path, tiny_models.identity("uint8", ("N", 224, 224, 3)), STEPS).run(image=[encoded(picture)])["y"][0]

    assert np.array_equal(got, expected)


def test_a_smaller_picture_is_padded_with_black_before_it_is_cropped(tmp_path: Path) -> None:
    crop = load(tmp_path, PIXELS, '[[before]]\nstep = "image"\n[[before]]\nstep = "crop"\nwidth = 4\nheight = 3\n')

    got = crop.run(image=[encoded(Image.new("RGB", (1, 1), RED))])["y"][0]

    assert got[1, 1].tolist() == list(RED)
    assert got.sum() == sum(RED)


def test_pad_puts_the_picture_into_the_middle_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    pad = load(tmp_path, PIXELS, '[[before]]\nstep = "image"\n[[before]]\nstep = "pad"\nwidth = 5\nheight = 5\nfill = 7\n')

    got = pad.run(image=[encoded(Image.new("RGB", (1, 1), RED))])["y"][0]

    assert got[2, 2].tolist() == list(RED)
    assert got.sum() == sum(RED) + 24 * 3 * 7
    with pytest.raises(EngineError, match=r"image\[0\] is 6 x 1 pixels where at most 5 x 5 fit") as caught:
        pad.run(image=[encoded(Image.new("RGB", (6, 1)))])
    assert caught.value.code == "UNFIT_IMAGE"


def test_a_line_of_one_pixel_is_not_blown_up_without_bound(tmp_path: Path) -> None:
    resize = load(tmp_path, PIXELS, '[[before]]\nstep = "image"\n[[before]]\nstep = "resize"\nshorter = 256\n')

    with pytest.raises(EngineError, match="once resized"):
        resize.run(image=[encoded(Image.new("L", (1, 4000)))])


def test_normalise_and_layout_are_applied_as_written(tmp_path: Path) -> None:
    declared = '[[before]]\nstep = "image"\n[[before]]\nstep = "normalise"\nmean = [0.1, 0.2, 0.3]\nstd = [0.5, 0.25, 0.125]\n'
    graph = load(tmp_path, tiny_models.identity("float32", ("N", 3, "H", "W")), declared)

    got = graph.run(image=[encoded(stripes())])["y"][0]

    expected = (np.asarray(stripes()) / 255.0 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.125]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected.transpose(2, 0, 1), rtol=1e-5)


def test_rows_of_unlike_size_run_apart_and_come_back_in_order(tmp_path: Path) -> None:
    graph = load(tmp_path, tiny_models.mean_colour(height="H", width="W", dtype="uint8"), '[[before]]\nstep = "image"\n')
    rows = [encoded(Image.new("RGB", size, colour)) for size, colour in (((2, 2), RED), ((3, 1), GREEN), ((2, 2), BLUE))]

    assert graph.run(image=rows)["logits"].tolist() == [list(RED), list(GREEN), list(BLUE)]


def test_rows_whose_answers_have_unlike_shapes_cannot_be_one_answer(pixels: Processed) -> None:
    rows = [encoded(Image.new("RGB", size)) for size in ((2, 2), (3, 1))]

    with pytest.raises(EngineError, match="unlike shapes in 'y'") as caught:
        pixels.run(image=rows)

    assert (caught.value.code, caught.value.kind) == ("UNLIKE_ROWS", Kind.INVALID)


def test_a_graph_of_one_row_is_run_row_by_row(tmp_path: Path) -> None:
    graph = load(tmp_path, tiny_models.identity("uint8", (1, 1, 1, 3)), '[[before]]\nstep = "image"\n')

    got = graph.run(image=[encoded(Image.new("RGB", (1, 1), colour)) for colour in (RED, BLUE)])["y"]

    assert got.tolist() == [[[list(RED)]], [[list(BLUE)]]]


def test_the_bare_graph_answers_under_its_own_signature(tmp_path: Path) -> None:
    graph = load(tmp_path, tiny_models.mean_colour(height="H", width="W"), '[[before]]\nstep = "image"\n[[after]]\nstep = "softmax"\n')
    tensor = np.ones((2, 3, 4, 4), np.float32)

    assert graph.run("tensors", x=tensor)["logits"].tolist() == [[1, 1, 1], [1, 1, 1]]
    assert set(graph.run(image=[encoded(stripes())])) == {"score"}
