import numpy as np
import pytest

from fewshot_automl.errors import UnknownNameError
from fewshot_automl.modalities import MODALITIES, modality_named

EXAMPLES = {"text": ["so good", " ", "So  GOOD"], "image": [np.zeros((9, 9), np.uint8)]}


@pytest.mark.parametrize("name", MODALITIES)
def test_a_row_recognises_reads_and_looks_at_its_examples(name):
    row = modality_named(name)
    cells = [
        cell for cell in EXAMPLES[name] if not isinstance(cell, str) or cell.strip()
    ]
    assert row.holds(cells)
    assert not any(other.holds(cells) for other in MODALITIES.values() if other != row)
    inputs = [row.read(cell, None, "row 0") for cell in EXAMPLES[name]]
    looks = row.look(inputs)
    assert "" != looks[0].key == row.look([inputs[0]])[0].key
    assert row.worth("x", EXAMPLES[name]) >= ()
    assert row.augmentations[0] == "none"


def test_texts_are_copies_whatever_their_case_and_blanks():
    good, empty, again = modality_named("text").look(EXAMPLES["text"])
    assert good.key == again.key
    assert not empty.key


def test_an_unknown_name_shows_the_nearest():
    with pytest.raises(UnknownNameError, match="Closest: 'image'"):
        modality_named("images")
