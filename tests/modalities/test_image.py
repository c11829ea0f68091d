import io

import numpy as np
import pytest
from PIL import Image

from fewshot_automl.modalities import MODALITIES


def encoded(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width, height, mode="RGB"):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_half_a_file_is_a_fault_in_every_format(kind):
    whole = encoded(noise(40, 30), kind)
    good, bad = MODALITIES["image"].look([whole, whole[: len(whole) // 2]])
    assert good.fault == ""
    assert bad.fault


def test_a_large_jpeg_cut_short_is_found_though_decoded_small():
    whole = encoded(noise(1800, 1200), "JPEG")
    good, bad = MODALITIES["image"].look([whole, whole[:-2000]])
    assert (good.fault, "truncated" in bad.fault) == ("", True)


@pytest.mark.parametrize("side", [9_000, 20_000])
def test_a_bomb_is_refused_by_its_header(side):
    bomb = encoded(Image.new("1", (side, side)), "PNG")
    (look,) = MODALITIES["image"].look([bomb])
    assert "pixels" in look.fault


def test_tiny_and_missing_images(tmp_path):
    tiny, gone, folder = MODALITIES["image"].look(
        [noise_array(4, 60), tmp_path / "x.png", tmp_path]
    )
    assert tiny.is_tiny
    assert gone.fault == "there is no such file"
    assert folder.fault


def noise_array(height, width):
    return np.asarray(noise(width, height))


def test_sixteen_bit_images_that_differ_have_different_digests():
    pictures = [
        Image.fromarray(np.full((9, 9), value, dtype=np.uint16))
        for value in (1000, 2000)
    ]
    first, second = MODALITIES["image"].look(
        [encoded(picture, "PNG") for picture in pictures]
    )
    assert first.key != second.key


def test_palettes_are_compared_by_colour():
    red = Image.new("P", (9, 9))
    red.putpalette([255, 0, 0])
    blue = Image.new("P", (9, 9))
    blue.putpalette([0, 0, 255])
    first, second = MODALITIES["image"].look(
        [encoded(red, "PNG"), encoded(blue, "PNG")]
    )
    assert first.key != second.key


def test_arrays_without_pixels_are_faults():
    (look,) = MODALITIES["image"].look([np.zeros((0, 5), dtype=np.uint8)])
    assert look.fault == "it has no pixels"
