"""The seam between raw examples and batches: texts to token ids, images to pixels."""

import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageEnhance
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fewshot_automl.backbones.card import TOKENIZER_FILE, Card, ImageInput, TextInput
from fewshot_automl.errors import CardError, DataError, UserError
from fewshot_automl.modalities import Input, content_hash, open_image
from fewshot_automl.modalities.text import windows_of

Tensors = dict[str, Tensor]
"""Named tensors: of one example (a row), or of many with a leading batch axis."""
MASK: Final = "mask"
"""Name of the tensor that says which positions of a padded batch are real."""

_SCALE: Final = (0.6, 1.0)
"""Share of the image's area that a variation keeps."""
_DEGREES: Final = 8.0
"""A variation is turned by at most so much; enough for a hand-held camera."""
_COLOUR: Final = (0.8, 1.2)
"""Factors on brightness, contrast and saturation."""


class TextReader:
    """Tokenises as the card says: its prefix, its limit, its special tokens.

    The file beside the weights is read by the tokenizers library itself, which needs
    no class of transformers. Rows hold ``input_ids`` without padding. Segment ids are
    left out: for single texts they are all zero in every supported architecture,
    which is what the encoders take when they get none.
    """

    def __init__(self, recipe: TextInput, folder: Path, pad_id: int) -> None:
        path = folder / TOKENIZER_FILE
        try:
            self._json = path.read_text(encoding="utf-8")
            self._tokenizer = Tokenizer.from_str(self._json)
        except Exception as error:  # tokenizers raises no other
            raise CardError(
                f"{path} must be a tokenizer of the tokenizers library, got "
                f"{type(error).__name__}: {error}. Fetch the weights again."
            ) from error
        # The file may carry the padding and truncation of somebody's last call.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(recipe.max_tokens)
        self._max_tokens = recipe.max_tokens
        self._prefix = recipe.prefix
        self._pad_id = pad_id
        digest = hashlib.sha256(self._json.encode()).hexdigest()[:16]
        self.recipe = (
            f"text-1 max_tokens={recipe.max_tokens} prefix={recipe.prefix!r} "
            f"tokenizer={digest}"
        )

    def read(self, inputs: Sequence[Input], view: int) -> list[Tensors]:
        """Tokenise texts, which have view 0 only."""
        if view != 0:
            raise UserError(f"View of a text must be 0, got {view}. Texts have one.")
        # An empty text gives no token at all where a tokenizer adds none itself.
        return [
            {"input_ids": torch.tensor(encoding.ids or [self._pad_id])}
            for encoding in self._tokenizer.encode_batch_fast(self._texts(inputs))
        ]

    def windows(self, inputs: Sequence[Input]) -> list[list[str]]:
        """Return each text in as few pieces of like length as `read` does not cut."""
        start = len(self._prefix)
        return windows_of(self._texts(inputs), start, self._tokenizer, self._max_tokens)

    def shares_cut(self, inputs: Sequence[Input]) -> list[float]:
        """Return which share of the tokens of each text `read` cuts off."""
        shares = []
        for encoding in self._tokenizer.encode_batch_fast(self._texts(inputs)):
            cut = sum(len(part.ids) for part in encoding.overflowing)
            shares.append(cut / max(len(encoding.ids) + cut, 1))
        return shares

    def _texts(self, inputs: Sequence[Input]) -> list[str]:
        texts = []
        for text in inputs:
            if not isinstance(text, str):
                raise DataError(
                    "Example of a text backbone must be a text, got "
                    f"{type(text).__name__}. Choose an image backbone or another "
                    "column."
                )
            whole = text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates
            texts.append(self._prefix + whole)
        return texts

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Pad rows on the right to the longest, and add the mask of real positions."""
        batch: Tensors = {}
        for name, first in rows[0].items():
            fill = 0.0 if first.is_floating_point() else float(self._pad_id)
            batch[name] = pad_sequence([row[name] for row in rows], True, fill)
        name, whole = next(iter(batch.items()))
        lengths = torch.tensor([len(row[name]) for row in rows], device=whole.device)
        positions = torch.arange(whole.shape[1], device=whole.device)
        batch[MASK] = (positions < lengths[:, None]).long()
        return batch

    def split(self, batch: Tensors) -> list[Tensors]:
        """Cut the padding off."""
        lengths: list[int] = batch[MASK].sum(1).tolist()
        names = [name for name in batch if name != MASK]
        return [
            {name: _own(batch[name][index, :length]) for name in names}
            for index, length in enumerate(lengths)
        ]

    def save(self, folder: Path) -> None:
        """Write the tokenizer, byte for byte as it was found."""
        (folder / TOKENIZER_FILE).write_text(self._json, encoding="utf-8")


class ImageReader:
    """Resizes, crops and normalises as the card says.

    View 0 is the plain view. View 1, 2, ... are variations: a crop of 60 to 100 % of
    the area anywhere in the image, a turn of up to 8 degrees, and up to 20 % more or
    less brightness, contrast and colour, drawn from the image's content and the view
    alone. **Odd views are mirrored as well, even ones never**: a mirror image keeps
    its class on most photographs but not for digits, letters or signs, so a caller
    who cannot rule those out uses the even views only.

    torchvision's transforms draw from torch's global state and resize a whole image
    before they crop it, which for a very long one takes all memory; so Pillow is
    called directly.
    """

    def __init__(self, recipe: ImageInput) -> None:
        self._recipe = recipe
        self._mean = torch.tensor(recipe.mean).view(-1, 1, 1)
        self._std = torch.tensor(recipe.std).view(-1, 1, 1)
        self._filter = Image.Resampling[recipe.interpolation.upper()]
        self.recipe = (
            f"image-2 size={recipe.size} crop={recipe.crop_fraction} "
            f"filter={recipe.interpolation} mean={recipe.mean} std={recipe.std}"
        )

    def read(self, inputs: Sequence[Input], view: int) -> list[Tensors]:
        """Open images and take one view of each."""
        return [{"pixels": self._pixels(image, view)} for image in inputs]

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Stack rows of one shape."""
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def split(self, batch: Tensors) -> list[Tensors]:
        """Undo `collate`."""
        rows = zip(*batch.values(), strict=True)
        return [dict(zip(batch, map(_own, row), strict=True)) for row in rows]

    def save(self, folder: Path) -> None:
        """Write nothing: the card says it all."""

    def _pixels(self, image: Input, view: int) -> Tensor:
        if isinstance(image, str):
            raise DataError(
                "Example of an image backbone must be an image, got a text. Give "
                "pathlib.Path for files, or choose a text backbone."
            )
        # Twice the side that is wanted: a JPEG that is larger need not be read whole.
        picture = open_image(image, 2 * self._recipe.size)
        if view == 0:
            # Resizing only the box that the centre crop keeps gives what resizing all
            # and then cropping gives.
            size = self._recipe.size
            resized = int(size / self._recipe.crop_fraction)
            side = min(picture.size) * size / resized
            left, top = (picture.width - side) / 2, (picture.height - side) / 2
            picture = self._resize(picture, (left, top, left + side, top + side))
        else:
            chance = random.Random(f"{content_hash(image)}:{view}")  # noqa: S311
            picture = self._vary(picture, chance, mirrored=view % 2 == 1)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255
        return (pixels - self._mean) / self._std

    def _resize(
        self, picture: Image.Image, box: tuple[float, float, float, float]
    ) -> Image.Image:
        return picture.resize((self._recipe.size,) * 2, self._filter, box)

    def _vary(
        self, picture: Image.Image, chance: random.Random, *, mirrored: bool
    ) -> Image.Image:
        ratio = chance.uniform(0.85, 1.18)
        area = picture.width * picture.height * chance.uniform(*_SCALE)
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
            chance.uniform(-_DEGREES, _DEGREES),
            Image.Resampling.BILINEAR,
            fillcolor=filling,
        )
        for change in ("Brightness", "Contrast", "Color"):
            enhancer = getattr(ImageEnhance, change)(picture)
            picture = enhancer.enhance(chance.uniform(*_COLOUR))
        return picture


Reader = TextReader | ImageReader
"""Knows one modality: how examples become rows and rows become batches."""


def reader_of(card: Card, folder: Path, pad_id: int) -> Reader:
    """Return the reader of a card's modality; the folder may hold a tokenizer."""
    if isinstance(card.input, TextInput):
        return TextReader(card.input, folder, pad_id)
    return ImageReader(card.input)


def _own(view: Tensor) -> Tensor:
    return view.clone(memory_format=torch.contiguous_format)
