"""Images to normalised pixels: one plain view and a family of light variations."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from fewshot_automl.backbones.backbone import Tensors
from fewshot_automl.backbones.card import ImageInput
from fewshot_automl.backbones.rows import stack_rows, unstack_rows
from fewshot_automl.errors import DataError
from fewshot_automl.modalities import Input, content_hash, open_image

Box = tuple[float, float, float, float]

FILTERS: dict[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

SCALE = (0.6, 1.0)
"""Share of the image's area that a variation keeps."""
DEGREES = 8.0
"""A variation is turned by at most so much; enough for a hand-held camera."""
COLOUR = (0.8, 1.2)
"""Factors on brightness, contrast and saturation."""


class ImageReader:
    """Resizes, crops and normalises as the card says.

    View 0 is the plain view. View 1, 2, ... are variations: a crop of 60 to 100 % of
    the area anywhere in the image, a turn of up to 8 degrees, and up to 20 % more or
    less brightness, contrast and colour, drawn from the image's content and the view
    alone. **Odd views are mirrored as well, even ones never**: a mirror image keeps
    its class on most photographs but not for digits, letters or signs, so a caller
    who cannot rule those out uses the even views only.
    """

    def __init__(self, recipe: ImageInput) -> None:
        self._recipe = recipe
        self._mean = torch.tensor(recipe.mean).view(-1, 1, 1)
        self._std = torch.tensor(recipe.std).view(-1, 1, 1)
        self.recipe = (
            f"image-1 size={recipe.size} crop={recipe.crop_fraction} "
            f"filter={recipe.interpolation} mean={recipe.mean} std={recipe.std}"
        )

    def read(self, inputs: Sequence[Input], view: int) -> list[Tensors]:
        """Open images and take one view of each.

        Raises:
            DataError: If an example is not an image or cannot be decoded.
        """
        return [{"pixels": self._pixels(image, view)} for image in inputs]

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Stack rows."""
        return stack_rows(rows)

    def split(self, batch: Tensors) -> list[Tensors]:
        """Undo `collate`."""
        return unstack_rows(batch)

    def save(self, folder: Path) -> None:
        """Write nothing: the card says it all."""

    def _pixels(self, image: Input, view: int) -> Tensor:
        if isinstance(image, str):
            raise DataError(
                "Example of an image backbone must be an image, got a text. Give "
                "pathlib.Path for files, or choose a text backbone."
            )
        picture = open_image(image)
        if view == 0:
            picture = self._resize(picture, self._centre(picture.width, picture.height))
        else:
            chance = random.Random(f"{content_hash(image)}:{view}")  # noqa: S311
            picture = self._vary(picture, chance, mirrored=view % 2 == 1)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (pixels - self._mean) / self._std

    def _centre(self, width: int, height: int) -> Box:
        # Resizing only the box that the centre crop keeps gives what resizing all and
        # then cropping gives, without the huge picture a very long image would make.
        resized = int(self._recipe.size / self._recipe.crop_fraction)
        side = min(width, height) * self._recipe.size / resized
        left, top = (width - side) / 2, (height - side) / 2
        return left, top, left + side, top + side

    def _resize(self, picture: Image.Image, box: Box) -> Image.Image:
        size = (self._recipe.size, self._recipe.size)
        return picture.resize(size, FILTERS[self._recipe.interpolation], box)

    def _vary(
        self, picture: Image.Image, chance: random.Random, *, mirrored: bool
    ) -> Image.Image:
        ratio = chance.uniform(0.85, 1.18)
        area = picture.width * picture.height * chance.uniform(*SCALE)
        width = min((area * ratio) ** 0.5, picture.width)
        height = min((area / ratio) ** 0.5, picture.height)
        # A crop of a long image stays near square, as the plain view is.
        width, height = min(width, 1.34 * height), min(height, 1.34 * width)
        left = chance.uniform(0, picture.width - width)
        top = chance.uniform(0, picture.height - height)
        picture = self._resize(picture, (left, top, left + width, top + height))
        if mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        filling = tuple(round(255 * min(max(m, 0.0), 1.0)) for m in self._recipe.mean)
        picture = picture.rotate(
            chance.uniform(-DEGREES, DEGREES),
            Image.Resampling.BILINEAR,
            fillcolor=filling,
        )
        for change in (
            ImageEnhance.Brightness,
            ImageEnhance.Contrast,
            ImageEnhance.Color,
        ):
            picture = change(picture).enhance(chance.uniform(*COLOUR))
        return picture
