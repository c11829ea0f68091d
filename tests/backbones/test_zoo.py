import dataclasses
import shutil

import pytest

from fewshot_automl.backbones.weights import user_folders
from fewshot_automl.backbones.zoo import Zoo, check, shipped_folder
from fewshot_automl.errors import CardError, UnknownNameError

SHIPPED = Zoo.shipped()


@pytest.fixture(autouse=True)
def no_user_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "mine"))


def test_nothing_is_wrong_with_the_shipped_zoo():
    assert check([shipped_folder()]) == []


@pytest.mark.parametrize("modality", ["text", "image"])
def test_cards_of_a_modality_come_best_first(modality):
    ranks = [card.prior_rank for card in SHIPPED.cards(modality)]
    assert ranks == sorted(ranks)
    assert all(card.modality == modality for card in SHIPPED.cards(modality))


def test_an_unknown_id_names_its_neighbours():
    with pytest.raises(UnknownNameError, match="Closest: 'minilm-l6'"):
        SHIPPED["minilm-l7"]


def test_two_cards_of_one_id_are_refused(tmp_path):
    shutil.copy(shipped_folder() / "image" / "resnet18.toml", tmp_path)
    with pytest.raises(CardError, match="'resnet18 twice'"):
        Zoo.load([shipped_folder(), tmp_path])


def test_folders_of_the_users_own_are_read(tmp_path):
    mine = tmp_path / "mine"
    (mine / "toy").mkdir(parents=True)
    toy = dataclasses.replace(SHIPPED["resnet18"], id="toy", is_default=False)
    (mine / "toy" / "card.json").write_text(toy.to_json())
    text = (shipped_folder() / "image" / "resnet18.toml").read_text()
    (mine / "mine-too.toml").write_text(text.replace('"resnet18"', '"mine-too"', 1))
    zoo = Zoo.known()
    assert zoo["toy"] == toy
    assert "mine-too" in zoo
    assert "toy" not in Zoo.shipped()
    assert len(zoo) == len(SHIPPED) + 2


def test_weights_for_a_shipped_card_are_no_second_card(tmp_path):
    folder = tmp_path / "mine" / "resnet18"
    folder.mkdir(parents=True)
    (folder / "card.json").write_text(SHIPPED["resnet18"].to_json())
    assert len(Zoo.known()) == len(SHIPPED)


def test_the_path_variable_names_several_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", f"{tmp_path / 'a'}:{tmp_path / 'b'}")
    assert user_folders() == (tmp_path / "a", tmp_path / "b")


def test_check_finds_everything_at_once(tmp_path):
    folder = tmp_path / "zoo" / "text"
    folder.mkdir(parents=True)
    for name in ("resnet18", "tiny-vit-5m", "mobilenetv2-100"):
        shutil.copy(shipped_folder() / "image" / f"{name}.toml", folder)
    wrong = (folder / "resnet18.toml").read_text()
    wrong = wrong.replace('"BSD-3-Clause"', '"bsd-3-clause"')
    (folder / "resnet18.toml").write_text(wrong)
    wrong = (folder / "mobilenetv2-100.toml").read_text()
    (folder / "mobilenetv2-100.toml").write_text(wrong.replace("in-order", "sane"))
    wrong = (folder / "tiny-vit-5m.toml").read_text()
    (folder / "tiny-vit-5m.toml").write_text(wrong.replace("width = 320", ""))
    problems = "\n".join(check([tmp_path / "zoo"]))
    assert "license must be written 'BSD-3-Clause', got 'bsd-3-clause'" in problems
    assert "key_map must be one of same, in-order, mobile-sam" in problems
    assert "width must be a whole number from 1 up, got 'nothing'" in problems
    assert "modality must be its folder's 'text', got 'image'" in problems
