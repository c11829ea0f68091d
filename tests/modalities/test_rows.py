import numpy as np
import pytest

from fewshot_automl.errors import UnknownNameError, UserError
from fewshot_automl.modalities import (
    MODALITIES,
    Modality,
    modality_named,
    register_modality,
)

EXAMPLES = {"text": ["so good", " ", "So  GOOD"], "image": [np.zeros((9, 9), np.uint8)]}


@pytest.mark.parametrize("name", MODALITIES)
def test_a_row_recognises_reads_and_looks_at_its_examples(name):
    row = modality_named(name)
    assert isinstance(row, Modality)
    cells = [
        cell for cell in EXAMPLES[name] if not isinstance(cell, str) or cell.strip()
    ]
    assert row.holds(cells)
    assert not any(other.holds(cells) for other in MODALITIES.values() if other != row)
    inputs = [row.read(cell, None, "row 0") for cell in EXAMPLES[name]]
    looks = row.look(inputs)
    assert looks[0].is_usable
    assert looks[0].key == row.look([inputs[0]])[0].key
    assert row.length(inputs[0]) >= 0
    assert row.augmentations[0] == "none"


def test_texts_are_copies_whatever_their_case_and_blanks():
    good, empty, again = modality_named("text").look(EXAMPLES["text"])
    assert good.key == again.key
    assert not empty.is_usable


def test_a_name_is_found_or_the_nearest_told():
    with pytest.raises(UnknownNameError, match="Closest: 'image'"):
        modality_named("images")
    with pytest.raises(UserError, match="must have a new name"):
        register_modality(type(MODALITIES["text"])())
