"""Noise, blur, light and JPEG change rows a little, the same way each time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from towline.core.manifest import Signature, TensorSpec
from towline.verify.data.dataset import in_memory
from towline.verify.robustness import corrupted, corruptions

TENSOR = Signature((TensorSpec("x", "float32", ("N", 1, 8, 8)),), ())
PICTURE = Signature((TensorSpec("image", "string", ("N",)),), ())


def test_pictures_as_tensors_get_noise_blur_and_light_and_plain_rows_only_noise():
    plain = Signature((TensorSpec("x", "float32", ("N", 4)),), ())

    assert [one.name for one in corruptions(TENSOR)["x"]] == ["noise", "blur", "brightness"]
    assert [one.name for one in corruptions(plain)["x"]] == ["noise"]
    assert [one.name for one in corruptions(PICTURE)["image"]] == ["noise", "blur", "brightness", "jpeg"]


@pytest.mark.parametrize("name", ["noise", "blur", "brightness"])
def test_a_corruption_changes_the_rows_alike_each_time_and_keeps_their_kind(name: str):
    x = np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)
    data = in_memory({"x": x}, "d", None)

    first, again = (corrupted(data, name, corruptions(TENSOR)).read(0, 4)["x"] for _ in range(2))

    np.testing.assert_array_equal(first, again)
    assert (first.dtype, first.shape) == (x.dtype, x.shape)
    assert 0.01 < float(np.abs(first - x).mean()) < 0.5


def test_blur_keeps_the_mean_and_takes_the_edges():
    x = np.zeros((1, 1, 16, 16), np.float32)
    x[..., 8, 8] = 1

    blurred = corrupted(in_memory({"x": x}, "d", None), "blur", corruptions(TENSOR)).read(0, 1)["x"]

    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert blurred[0, 0, 8, 8] < 0.25
    assert blurred[0, 0, 8, 9] == pytest.approx(blurred[0, 0, 9, 8])


@pytest.mark.parametrize("name", ["noise", "blur", "brightness", "jpeg"])
def test_an_encoded_picture_is_changed_and_still_a_picture(name: str):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), np.uint8)).save(out, "PNG")
    rows = np.empty(1, dtype=object)
    rows[0] = out.getvalue()

    told = corrupted(in_memory({"image": rows}, "d", None), name, corruptions(PICTURE)).read(0, 1)["image"][0]

    assert told != rows[0]
    with Image.open(io.BytesIO(told)) as picture:
        assert picture.size == (16, 16)
        assert picture.format == ("JPEG" if name == "jpeg" else "PNG")
