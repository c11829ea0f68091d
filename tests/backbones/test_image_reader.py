import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fewshot_automl.backbones.card import ImageInput
from fewshot_automl.backbones.readers import ImageReader
from fewshot_automl.errors import DataError

RECIPE = ImageInput(
    size=32,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    interpolation="bicubic",
    crop_fraction=0.875,
    pooling="avg",
)
READER = ImageReader(RECIPE)


def picture(height=60, width=80):
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)]
    return ((np.stack(waves, -1) + 1) * 127).astype(np.uint8)


def pixels(item, view=0):
    return READER.read([item], view)[0]["pixels"]


def test_plain_view_is_what_torchvision_makes():
    from torchvision import transforms

    reference = transforms.Compose(
        [
            transforms.Resize(36, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(32),
            transforms.ToTensor(),
            transforms.Normalize(RECIPE.mean, RECIPE.std),
        ]
    )
    expected = reference(Image.fromarray(picture(72, 72)))
    assert (pixels(picture(72, 72)) - expected).abs().max() < 0.04
    expected = reference(Image.fromarray(picture()))
    assert (pixels(picture()) - expected).abs().mean() < 0.05


def test_file_bytes_and_pixels_are_one(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(picture()).save(path)
    for view in (0, 1, 2):
        assert torch.equal(pixels(path, view), pixels(path.read_bytes(), view))
    assert torch.equal(pixels(path), pixels(picture()))


def test_views_differ_and_repeat():
    views = [pixels(picture(), view) for view in range(5)]
    again = [pixels(picture(), view) for view in range(5)]
    assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
    for i in range(5):
        assert all((views[i] - views[j]).abs().mean() > 0.01 for j in range(i))


def test_views_depend_on_content():
    other = picture()
    other[0, 0] ^= 1
    assert not torch.allclose(pixels(picture(), 2), pixels(other, 2))


def test_odd_views_are_mirrored_and_even_ones_are_not():
    left = np.zeros((64, 64, 3), np.uint8)
    left[:, :32] = 255
    for view in range(1, 9):
        seen = pixels(left, view).mean(0)
        is_mirrored = bool(seen[:, -8:].mean() > seen[:, :8].mean())
        assert is_mirrored is (view % 2 == 1)


@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.integers(0, 3),
    st.sampled_from([1, 3, 4]),
)
def test_any_picture_gives_a_square(height, width, view, channels):
    array = np.zeros((height, width, channels), np.uint8)
    found = pixels(array[..., 0] if channels == 1 else array, view)
    assert found.shape == (3, 32, 32)
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_a_very_long_picture_is_no_burden():
    assert pixels(np.zeros((2, 60_000, 3), np.uint8)).shape == (3, 32, 32)


def test_refuses_texts_and_broken_files(tmp_path):
    with pytest.raises(DataError, match=r"must be an image, got a text"):
        pixels("cat.jpg")
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"a\.jpg"):
        pixels(tmp_path / "a.jpg")
