"""Texts to token ids, with the `tokenizers` library alone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from fewshot_automl.backbones.backbone import Tensors
from fewshot_automl.backbones.card import TextInput
from fewshot_automl.backbones.rows import pad_rows, trim_rows
from fewshot_automl.errors import CardError, DataError, UserError
from fewshot_automl.modalities import Input

TOKENIZER_FILE = "tokenizer.json"


class TextReader:
    """Tokenises as the card says: its prefix, its limit, its special tokens.

    Rows hold ``input_ids`` without padding. Segment ids are left out: for single
    texts they are all zero in every supported architecture, which is what the
    encoders take when they get none.
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
        self._prefix = recipe.prefix
        self._pad_id = pad_id
        digest = hashlib.sha256(self._json.encode()).hexdigest()[:16]
        self.recipe = (
            f"text-1 max_tokens={recipe.max_tokens} prefix={recipe.prefix!r} "
            f"tokenizer={digest}"
        )

    def read(self, inputs: Sequence[Input], view: int) -> list[Tensors]:
        """Tokenise texts.

        Raises:
            DataError: If an example is not a text.
            UserError: If `view` is not 0.
        """
        if view != 0:
            raise UserError(f"View of a text must be 0, got {view}. Texts have one.")
        texts = [self._prefix + _readable(text) for text in inputs]
        encodings = self._tokenizer.encode_batch_fast(texts)
        # An empty text gives no token at all where a tokenizer adds none itself.
        return [
            {"input_ids": torch.tensor(encoding.ids or [self._pad_id])}
            for encoding in encodings
        ]

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Pad to the longest row."""
        return pad_rows(rows, self._pad_id)

    def split(self, batch: Tensors) -> list[Tensors]:
        """Cut the padding off."""
        return trim_rows(batch)

    def save(self, folder: Path) -> None:
        """Write the tokenizer, byte for byte as it was found."""
        (folder / TOKENIZER_FILE).write_text(self._json, encoding="utf-8")


def _readable(text: Input) -> str:
    if not isinstance(text, str):
        raise DataError(
            f"Example of a text backbone must be a text, got {type(text).__name__}. "
            "Choose an image backbone or another column."
        )
    return text.encode("utf-8", "replace").decode("utf-8")  # lone surrogates
