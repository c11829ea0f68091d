import dataclasses

import pytest

from fewshot_automl.adaptation.method import Method, Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import SpaceError, UnknownNameError
from fewshot_automl.space import When
from fewshot_automl.tasks import Task
from fewshot_automl.trial import space_for


def profile(modality="text", counts=(5, 5)):
    task = Task(modality=modality, names=("a", "b"))
    return Profile(task=task, strata=counts)


@pytest.fixture
def cards(tiny_cards):
    return [tiny_cards[name] for name in ("tiny-bert", "tiny-mpnet", "tiny-roberta")]


@pytest.fixture
def space(cards):
    return space_for(profile(), cards)


def test_text_space_holds_every_method_and_backbone(space, cards):
    assert space["method"].options == tuple(METHODS)
    assert space["backbone"].options == tuple(card.id for card in cards)
    assert len(space["backbone"].descriptors) == 3
    users = tuple(name for name, row in METHODS.items() if row.needs_backbone)
    assert space["backbone"].when == (When("method", users),)
    assert space["frozen_fraction"].when[0].values == (
        "contrastive",
        "contrastive_lora",
        "partial_freeze",
        "lora",
    )


def test_long_texts_are_a_choice_of_cheap_methods_on_backbones_that_cut(space, cards):
    assert "long_texts" not in space
    assert space.default(method="probe")["blocks"] == "both"
    cut_by = dataclasses.replace(profile(), cut_by=("tiny-mpnet",))
    found = space_for(cut_by, cards)
    names = [name for name in found.names if name != "long_texts"]
    assert names == list(space.names)
    for method in ("probe", "prototype"):
        assert "long_texts" in found.default(method=method, backbone="tiny-mpnet")
        assert "long_texts" not in found.default(method=method, backbone="tiny-bert")
    assert "long_texts" not in found.default(method="lora", backbone="tiny-mpnet")


def test_image_space_has_no_tfidf_and_takes_image_cards_alone(tiny_cards):
    space = space_for(profile("image"), list(tiny_cards.values()))
    assert "tfidf" not in space["method"].options
    assert "blocks" not in space
    assert all(tiny_cards[n].modality == "image" for n in space["backbone"].options)


def test_without_a_backbone_the_baselines_are_left():
    space = space_for(profile(), [])
    assert space["method"].options == ("majority", "tfidf")
    assert "backbone" not in space


def test_methods_narrow_the_space_and_their_dimensions(cards):
    space = space_for(profile(), cards, ["lora", "probe"])
    assert space["method"].options == ("lora", "probe")
    assert {"rank", "head", "steps"} <= {d.name for d in space.dimensions}
    assert "temperature" not in space
    assert "rule" not in space


def test_methods_that_need_what_is_not_there_are_refused(cards):
    with pytest.raises(SpaceError, match="fewshot zoo get"):
        space_for(profile(), [], ["probe"])
    with pytest.raises(SpaceError, match="usable on image"):
        space_for(profile("image"), [], ["tfidf"])
    with pytest.raises(UnknownNameError, match="'lora'"):
        space_for(profile(), cards, ["lorra"])


def test_the_default_backbone_is_the_default_card(cards):
    chosen = dataclasses.replace(cards[2], is_default=True)
    space = space_for(profile(), [*cards[:2], chosen])
    assert space["backbone"].default == chosen.id
    best = min(cards, key=lambda card: card.prior_rank)
    assert space_for(profile(), cards)["backbone"].default == best.id


def test_methods_that_disagree_about_a_dimension_are_refused(cards, monkeypatch):
    from fewshot_automl.adaptation import table
    from fewshot_automl.space import Choice

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Odd(Method):
        name: str = "odd"
        title: str = "Odd"
        meaning: str = "is odd"
        needs_backbone: bool = False

        def dimensions(self, profile):
            return (Choice(name="head", options=("x", "y")),)

        def numbers(self, config, width, task, inputs):
            return []

        def fit(self, train, targets, job):
            raise NotImplementedError

    monkeypatch.setitem(table.METHODS, "odd", Odd())
    with pytest.raises(SpaceError, match=r"'head'.*'probe' and 'odd'"):
        space_for(profile(), cards, ["probe", "odd"])
