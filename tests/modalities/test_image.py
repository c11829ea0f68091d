import io
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms

from fewshot_automl.modalities import MODALITIES, open_image


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
    assert "tiny image" in tiny.oddities
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


def profile(swap):
    """Return sRGB; or a profile in which red and blue change places."""
    made = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if swap:
        made = made.replace(b"rXYZ", b"?").replace(b"bXYZ", b"rXYZ")
        made = made.replace(b"?", b"bXYZ").replace(b"\0s\0R\0G\0B", b"\0s\0B\0G\0R")
    return made


def deep(value, kind="<u2", size=(9, 9)):
    return Image.fromarray(np.full(size, value, dtype=kind))


@pytest.mark.parametrize(
    ("image", "shown", "odd"),
    [
        (encoded(deep(40_000), "PNG"), (156,) * 3, "pixels from 0 to 65,535"),
        (encoded(deep(40_000, ">u2"), "TIFF"), (156,) * 3, "pixels from 0 to 65,535"),
        (encoded(deep(40_000, "i4"), "TIFF"), (156,) * 3, "pixels from 0 to 65,535"),
        (encoded(deep(0.5, "f4"), "TIFF"), (128,) * 3, "pixels from 0 to 1"),
        (encoded(deep(90, "f4"), "TIFF"), (90,) * 3, "pixels from 0 to 255"),
        (encoded(deep(4_000), "PNG"), (16,) * 3, "dark image"),
        (encoded(Image.new("L", (9, 9), 3), "PNG"), (3,) * 3, "dark image"),
        (encoded(Image.new("LA", (9, 9), (0, 128)), "PNG"), (127,) * 3, None),
        (encoded(Image.new("P", (9, 9), 0), "PNG", transparency=0), (255,) * 3, None),
        (encoded(deep(7_000), "PNG", transparency=7_000), (255,) * 3, None),
        (
            encoded(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), "TIFF"),
            (255, 0, 0),
            None,
        ),
    ],
)
def test_every_depth_and_mode_is_shown_as_a_viewer_does_or_its_scale_is_said(
    image, shown, odd
):
    assert open_image(image).getpixel((4, 4)) == shown
    (look,) = MODALITIES["image"].look([image])
    assert look.fault == ""
    assert odd is None or odd in look.oddities


@pytest.mark.parametrize(
    ("icc", "shown"),
    [(profile(True), (0, 0, 255)), (profile(False), (255, 0, 0)), (b"?", (255, 0, 0))],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles_are_applied_if_they_work(icc, shown, mode):
    picture = Image.new("RGB", (9, 9), "red").convert(mode)
    image = encoded(picture, "PNG", icc_profile=icc)
    gap = np.subtract(open_image(image).getpixel((4, 4)), shown)
    assert np.abs(gap).max() <= 2


def test_values_without_a_range_are_stretched_and_said():
    ramp = Image.fromarray(np.linspace(-900, 3000, 81, dtype="f4").reshape(9, 9))
    image = encoded(ramp, "TIFF")
    assert np.asarray(open_image(image))[[0, -1], [0, -1], 0].tolist() == [0, 255]
    look = MODALITIES["image"].look([image])
    (found,) = MODALITIES["image"].findings([image], look, ["a.tif"])
    assert "1 image of 32-bit" in found.line()
    assert "(a.tif)" in found.line()


def test_pages_and_frames_after_the_first_are_counted():
    pages = [noise(20, 20), noise(20, 20).transpose(Image.Transpose.ROTATE_90)]
    for kind in ("TIFF", "GIF", "WEBP", "PNG"):
        image = encoded(pages[0], kind, save_all=True, append_images=pages[1:])
        assert "several frames" in MODALITIES["image"].look([image])[0].oddities


def test_a_large_photograph_is_decoded_reduced_and_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = noise(1800, 1200).resize((1800, 1200))
    image = encoded(whole, "JPEG", exif=exif)
    assert open_image(image, 448).size == (600, 900)
    assert open_image(image, 1200).size == (1200, 1800)
    assert open_image(encoded(whole, "JPEG", exif=b"Exif\0\0damaged")).size[0] == 900


def test_heic_is_read_by_its_content_and_named_where_it_cannot_be(
    tmp_path, monkeypatch
):
    pillow_heif = pytest.importorskip("pillow_heif")
    photo, false = tmp_path / "photo.jpg", tmp_path / "false.HEIC"
    pillow_heif.from_pillow(noise(64, 48)).save(photo, format="HEIF")
    false.write_bytes(encoded(noise(9, 9), "PNG"))
    assert open_image(photo).size == (64, 48)
    (look,) = MODALITIES["image"].look([false])
    assert "it is PNG and not HEIC" in look.fault
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (look,) = MODALITIES["image"].look([photo])
    assert "pip install 'fewshot-automl[heic]'" in look.fault


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is empty"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 300, "HEIC, and damaged"),
        (b"no image", "unknown format"),
    ],
)
def test_a_file_that_is_no_image_is_called_what_it_is(content, says):
    (look,) = MODALITIES["image"].look([content])
    assert says in look.fault
    assert "0x" not in look.fault


VIEWER = shutil.which("chromium")


@pytest.mark.slow
@pytest.mark.skipif(VIEWER is None, reason="needs chromium")
def test_pixels_are_those_of_a_browser(tmp_path):
    clear = noise(32, 32).copy()
    clear.putalpha(Image.linear_gradient("L").resize((32, 32)))
    ramp = np.arange(1024, dtype="u2").reshape(32, 32) * 64
    images = {
        "deep.png": encoded(Image.fromarray(ramp), "PNG"),
        "clear.png": encoded(clear, "PNG"),
        "grey.png": encoded(clear.convert("LA"), "PNG"),
        "palette.png": encoded(noise(32, 32).quantize(8), "PNG", transparency=2),
        "profile.png": encoded(noise(32, 32), "PNG", icc_profile=profile(True)),
        "cmyk.jpg": encoded(noise(32, 32, "CMYK"), "JPEG", quality=100),
        "animated.gif": encoded(
            noise(32, 32).quantize(8),
            "GIF",
            save_all=True,
            append_images=[Image.new("P", (32, 32))],
            duration=60_000,
        ),
    }
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        images[f"turn{turn}.jpg"] = encoded(noise(32, 32), "JPEG", exif=exif)
    page = ["<!doctype html><body style='margin:0;font-size:0'>"]
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)
        page.append(f"<img src={name} style='display:block'>")
    (tmp_path / "page.html").write_text("".join(page))
    size = f"--window-size=800,{32 * len(images) + 200}"
    flags = ["--headless", "--no-sandbox", "--force-color-profile=srgb", size]
    shot = tmp_path / "shot.png"
    address = (tmp_path / "page.html").as_uri()
    subprocess.run([VIEWER, *flags, f"--screenshot={shot}", address], check=True)
    screen = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    for row, name in enumerate(images):
        seen = screen[32 * row : 32 * (row + 1), :32]
        assert np.abs(seen - np.asarray(open_image(tmp_path / name))).max() <= 2, name
