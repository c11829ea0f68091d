import dataclasses

import pytest
from fewshot_automl.trial.design import (
    DEAR_ORDER,
    dear_defaults,
    is_dear,
    is_shorter,
    probed_backbones,
    reference_ladder,
    rung_zero,
    space_for,
    undominated,
)

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import SpaceError, UnknownNameError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import When
from fewshot_automl.tasks import Task

DEAR = [name for name, row in METHODS.items() if row.is_dear]


def profile(modality="text", counts=(5, 5)):
    task = Task(modality=modality, names=("a", "b"))
    return Profile(task=task, class_counts=counts)


@pytest.fixture
def cards(tiny_cards):
    return [tiny_cards[name] for name in ("tiny-bert", "tiny-mpnet", "tiny-roberta")]


@pytest.fixture
def space(cards):
    return space_for(profile(), cards)


def done(score):
    return Outcome(status="done", mean=score, scores=(score,), cost_seconds=1.0)


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


def test_image_space_has_no_tfidf_and_takes_image_cards_alone(tiny_cards):
    space = space_for(profile("image"), list(tiny_cards.values()))
    assert "tfidf" not in space["method"].options
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


def test_rung_zero_is_baselines_then_heads_on_each_affordable_backbone(space):
    configs = rung_zero(space, ["tiny-mpnet", "tiny-bert"], [])
    assert len(set(configs)) == len(configs)
    assert [c.text("method") for c in configs[:2]] == ["majority", "tfidf"]
    names = [c.text("backbone") for c in configs[2:]]
    assert names == ["tiny-mpnet"] * 3 + ["tiny-bert"] * 3
    assert not any(is_dear(config) for config in configs)
    for config in configs:
        space.validate(config)


def test_rung_zero_ends_with_the_kernel_on_the_best(space):
    first = rung_zero(space, ["tiny-mpnet", "tiny-bert"], [])
    history = [
        (c, done(0.9 if c.get("backbone", "") == "tiny-mpnet" else 0.2)) for c in first
    ]
    (last,) = rung_zero(space, ["tiny-mpnet", "tiny-bert"], history)[len(first) :]
    assert (last.text("head"), last.text("backbone")) == ("rbf", "tiny-mpnet")


def test_rung_zero_on_a_budget_for_no_backbone(space):
    methods = [c.text("method") for c in rung_zero(space, [], [])]
    assert methods == ["majority", "tfidf"]


def test_rung_zero_keeps_to_a_narrowed_space(cards):
    space = space_for(profile(), cards, ["prototype", "contrastive"])
    configs = rung_zero(space, ["tiny-bert"], [])
    assert {c.text("method") for c in configs} == {"prototype"}


def test_backbones_rank_by_their_best_quick_score(space):
    history = [
        (space.default(method="probe", backbone="tiny-roberta"), done(0.9)),
        (space.default(method="prototype", backbone="tiny-roberta"), done(0.1)),
        (space.default(method="probe", backbone="tiny-mpnet"), done(0.3)),
        (space.default(method="lora", backbone="tiny-bert"), done(1.0)),
        (
            space.default(method="prototype", backbone="tiny-bert"),
            Outcome(status="failed", reason="no"),
        ),
    ]
    ranked = probed_backbones(space, history)
    assert ranked == ["tiny-roberta", "tiny-mpnet", "tiny-bert"]


def test_dear_defaults_are_ladders_of_falling_cost(space):
    names = ("tiny-mpnet", "tiny-roberta")
    ladders = dear_defaults(space, names, examples=48)
    heads = [(r[0].text("method"), r[0].text("backbone")) for r in ladders]
    assert set(heads) == {(name, backbone) for name in DEAR for backbone in names}
    assert heads[:4] == [(name, b) for name in DEAR_ORDER for b in names]
    for ladder in ladders:
        assert len(set(ladder)) == len(ladder) > 1
        for config in ladder:
            space.validate(config)
        draws = [int(c["steps"]) * int(c["batch_size"]) for c in ladder]
        assert draws == sorted(draws, reverse=True)
        assert len({(c.text("method"), c.text("backbone")) for c in ladder}) == 1


@pytest.mark.parametrize(
    ("examples", "first"), [(1000, (40, 32)), (48, (40, 16)), (10, (10, 16))]
)
def test_few_examples_need_few_steps(space, examples, first):
    ladder = dear_defaults(space, ["tiny-bert"], examples)[0]
    assert (ladder[0]["steps"], ladder[0]["batch_size"]) == first


def test_only_rungs_that_train_as_much_are_shorter(space):
    ladder = dear_defaults(space, ["tiny-bert"], examples=1000)[0]
    assert [is_shorter(config, ladder) for config in ladder] == [True] * 4 + [False]


def test_ladders_keep_to_a_narrowed_space(space):
    narrowed = space.narrow("steps", (60, 100)).narrow("frozen_fraction", (0.1, 0.3))
    for ladder in dear_defaults(narrowed, ["tiny-bert"], examples=48):
        for config in ladder:
            narrowed.validate(config)


def test_the_reference_is_the_first_dear_method_on_the_default_backbone(space, cards):
    ladder = reference_ladder(space, 48)
    assert ladder == dear_defaults(space, [space["backbone"].default], 48)[0]
    assert reference_ladder(space_for(profile(), cards, ["probe"]), 48) == []
    assert reference_ladder(space_for(profile(), []), 48) == []
    (other, *_) = reference_ladder(space_for(profile(), cards, ["full", "lora"]), 48)
    assert other.text("method") == "lora"


def test_methods_that_disagree_about_a_dimension_are_refused(cards, monkeypatch):
    from fewshot_automl.adaptation import table
    from fewshot_automl.space import Choice

    @dataclasses.dataclass(frozen=True)
    class Odd:
        name: str = "odd"
        needs_backbone: bool = False
        is_dear: bool = False
        modalities: tuple[str, ...] = ("text",)

        def dimensions(self, profile):
            return (Choice(name="head", options=("x", "y")),)

        def fit(self, train, labels, job):
            raise NotImplementedError

    monkeypatch.setitem(table.METHODS, "odd", Odd())
    with pytest.raises(SpaceError, match=r"'head'.*'probe' and 'odd'"):
        space_for(profile(), cards, ["probe", "odd"])


def test_a_backbone_that_is_beaten_twice_is_dominated(space):
    names = ["tiny-bert", "tiny-mpnet", "tiny-roberta"]
    priors = dict(
        zip(space["backbone"].options, space["backbone"].descriptors, strict=True)
    )
    best, *_, worst = sorted(names, key=lambda name: -priors[name][-1])
    rising = {best: 0.9, worst: 0.5}
    history = [
        (space.default(method="probe", backbone=name), done(rising.get(name, 0.7)))
        for name in names
    ]
    kept = undominated(names, space, history)
    assert best in kept
    assert worst not in kept
    assert undominated([worst], space, history) == [worst]
    turned = [(c, done(1.0 - o.mean)) for c, o in history]
    assert worst in undominated(names, space, turned)
