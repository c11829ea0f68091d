import itertools
import json
import math
from dataclasses import replace

import pytest
from fewshot_automl.automl.plan import Plan, Situation, Splits, draw_plan
from fewshot_automl.trial.design import reference_ladder, space_for
from fewshot_automl.trial.forecast import Forecast

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.automl.search import settled_plan
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.errors import LedgerError
from fewshot_automl.ledger import Ledger
from fewshot_automl.outcome import Outcome
from fewshot_automl.tasks import Task
from fewshot_automl.trial.workload import Workload

SLOW, USUAL, FAST = 2e10, 1.2e11, 1e13
"""An old core, two good cores, a GPU: operations per second."""
AT_HAND = {
    "text": ("minilm-l3", "minilm-l6", "mpnet-base"),
    "image": (
        "mobilenetv2-100",
        "efficientnet-lite0",
        "efficientnet-lite2",
        "resnet18",
        "tiny-vit-5m",
    ),
}
CASES = [
    (modality, shots, classes, rate, seconds)
    for modality in ("text", "image")
    for shots, classes in ((8, 2), (8, 6), (16, 64))
    for rate in (SLOW, USUAL, FAST)
    for seconds in (30.0, 60.0, 120.0, 3600.0)
]


def space_of(modality, shots, classes):
    task = Task(
        modality=modality,
        names=tuple(f"c{index}" for index in range(classes)),
    )
    zoo = Zoo.known()
    cards = tuple(zoo[name] for name in AT_HAND[modality])
    return space_for(Profile(task=task, class_counts=(shots,) * classes), cards), cards


def situation(
    modality="text", shots=8, classes=6, rate=USUAL, seconds=60.0, spent=4.0, **more
):
    space, cards = space_of(modality, shots, classes)
    examples = shots * classes
    return Situation(
        workload=Workload(
            cards=cards,
            examples=examples,
            characters=50.0 if modality == "text" else 0.0,
            rate=rate,
        ),
        reference=tuple(reference_ladder(space, examples)),
        budget_seconds=seconds,
        spent_seconds=spent,
        **more,
    )


@pytest.mark.parametrize(("modality", "shots", "classes", "rate", "seconds"), CASES)
def test_a_plan_spends_what_it_has_and_no_more(modality, shots, classes, rate, seconds):
    now = situation(modality, shots, classes, rate, seconds)
    plan = draw_plan(now)
    assert 3 <= plan.splits.folds <= 5
    assert plan.backbones
    assert set(plan.backbones) <= set(AT_HAND[modality])
    left = seconds - now.spent_seconds
    spent = plan.rung_zero_seconds + plan.final_seconds
    cheapest = len(plan.backbones) == 1
    assert spent < left or cheapest  # one backbone is tried whatever it costs
    assert cheapest or plan.rung_zero_seconds <= 0.3 * left
    assert 0 <= plan.dear_seconds <= plan.bold_seconds <= 0.6 * left
    if plan.dear_trials:
        prices = Forecast(
            workload=replace(now.workload, dear_fits=plan.splits.folds)
        ).after([])
        assert any(
            prices.trial_seconds(config) <= 1.5 * plan.dear_seconds
            for config in now.reference
        )
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert "\n" not in str(plan)


@pytest.mark.parametrize("modality", ["text", "image"])
@pytest.mark.parametrize("rate", [SLOW, USUAL, FAST])
def test_more_time_never_buys_less(modality, rate):
    plans = [
        draw_plan(situation(modality, rate=rate, seconds=seconds))
        for seconds in (15.0, 30.0, 60.0, 120.0, 600.0, 3600.0, 36000.0)
    ]
    for less, more in itertools.pairwise(plans):
        assert set(less.backbones) <= set(more.backbones)
        assert less.splits.folds <= more.splits.folds
        assert less.splits.repeats <= more.splits.repeats
        assert less.members <= more.members
    assert len(plans[-1].backbones) == len(AT_HAND[modality])
    assert plans[-1].splits.folds >= 4


def test_thirty_seconds_on_two_cores_buy_a_real_dear_trial():
    plan = draw_plan(situation(seconds=30.0))
    assert plan.dear_trials >= 2
    assert "minilm-l6" in plan.backbones
    assert plan.splits == Splits(folds=3, repeats=3)


def test_sixty_seconds_on_two_cores_compare_several():
    plan = draw_plan(situation(seconds=60.0))
    assert set(plan.backbones) == set(AT_HAND["text"])
    assert plan.dear_trials >= 4
    prices = Forecast(
        workload=replace(situation().workload, dear_fits=plan.splits.folds)
    ).after([])
    half = situation().reference[1]
    assert (half["frozen_fraction"], half["steps"]) == (0.5, 20)
    assert prices.trial_seconds(half) <= 1.3 * plan.dear_seconds


def test_an_hour_buys_folds_members_and_dear_trials_on_the_largest_backbone():
    plan = draw_plan(situation(seconds=3600.0))
    assert plan.splits.folds == 5
    assert plan.members == 5
    assert plan.dear_backbones == 3
    assert plan.space_filling == 8
    space, cards = space_of("text", 8, 6)
    large = space.default(
        method="contrastive", backbone="mpnet-base", steps=20, batch_size=16
    )
    prices = Forecast(workload=replace(situation().workload, dear_fits=5)).after([])
    assert prices.trial_seconds(large) < plan.dear_seconds < 3600 / 8
    assert len(plan.backbones) == len(cards)


def test_a_fast_machine_scores_dear_trials_twice():
    plan = draw_plan(situation(rate=FAST, seconds=3600.0))
    assert plan.splits.dear_repeats == 2


@pytest.mark.parametrize(("shots", "classes"), [(64, 2), (16, 64)])
def test_dear_trials_are_repeated_only_where_folds_are(shots, classes):
    now = situation(shots=shots, classes=classes, rate=1e4 * FAST, seconds=3600.0)
    assert draw_plan(now).splits.dear_repeats == 1
    fewer = situation(shots=63, rate=1e4 * FAST, classes=2, seconds=3600.0)
    assert draw_plan(fewer).splits.dear_repeats == 2


def test_many_examples_on_a_slow_machine_get_one_backbone_and_no_illusions():
    plan = draw_plan(situation("image", shots=16, classes=32, rate=SLOW, seconds=30.0))
    assert len(plan.backbones) == 1
    assert plan.dear_trials == 0
    assert "no time for dear trials" in str(plan)


def test_a_dear_trial_that_may_still_be_begun_is_not_denied():
    plan = Plan(budget_seconds=60.0, dear_seconds=22.4, dear_trials=0)
    assert "hardly time for dear trials (at most 22 s)" in str(plan)


def test_the_cheapest_backbone_comes_first_and_the_default_is_among_few():
    plan = draw_plan(situation("image", seconds=30.0))
    assert plan.backbones[0] == "mobilenetv2-100"
    assert draw_plan(situation("text", seconds=20.0)).backbones[0] == "minilm-l3"


def test_small_classes_bound_the_folds():
    assert draw_plan(situation(seconds=3600.0, most_folds=2)).splits.folds == 2


def test_test_data_are_paid_for():
    plain, tested = (draw_plan(situation(tested=n)) for n in (0, 2000))
    assert tested.final_seconds > plain.final_seconds + 1
    assert tested.dear_seconds < plain.dear_seconds


def test_scoring_a_large_test_set_does_not_starve_the_search():
    plan = draw_plan(situation(tested=1_000_000))
    assert plan.final_seconds < 0.6 * 60
    assert plan.dear_trials >= 1


def test_members_asked_for_are_kept():
    assert draw_plan(situation(members=1, seconds=3600.0)).members == 1
    assert "one model" in str(draw_plan(situation(members=1)))


def test_without_a_limit_of_time_nothing_is_bounded():
    plan = draw_plan(situation(seconds=None))
    assert plan.dear_seconds is plan.rung_zero_seconds is None
    assert plan.splits == Splits(folds=4, repeats=5)
    assert set(plan.backbones) == set(AT_HAND["text"])
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(("trials", "expected"), [(1, 1), (8, 1), (18, 2), (90, 5)])
def test_few_trials_are_not_all_first_looks(trials, expected):
    plan = draw_plan(situation("image", seconds=None, trials=trials))
    everything = draw_plan(situation("image", seconds=None)).backbones
    assert len(plan.backbones) == expected
    cards = situation("image").workload.cards
    first = min(cards, key=lambda card: (not card.is_default, card.prior_rank))
    assert first.id in plan.backbones
    assert [name for name in everything if name in plan.backbones] == list(
        plan.backbones
    )


def test_without_dear_methods_nothing_is_said_of_them():
    plan = draw_plan(replace(situation(), reference=()))
    assert plan.dear_seconds is None
    assert "dear" not in str(plan)


def test_without_backbones_there_is_a_plan():
    plain = situation()
    bare = replace(plain, workload=replace(plain.workload, cards=()), reference=())
    assert draw_plan(bare).backbones == ()
    assert draw_plan(replace(bare, budget_seconds=None)).backbones == ()


def test_time_that_is_gone_is_not_planned():
    plan = draw_plan(situation(seconds=10.0, spent=50.0))
    assert plan.dear_seconds == 0
    assert "no time for dear trials" in str(plan)
    assert math.isfinite(plan.final_seconds)


def ledger_in(folder):
    space, _ = space_of("text", 8, 6)
    return Ledger.open(folder, study="s", space=space), space


def test_a_resumed_study_keeps_its_plan(tmp_path):
    ledger, _ = ledger_in(tmp_path)
    first = settled_plan(ledger, situation())
    other = situation(rate=FAST, spent=40.0)  # another machine, most time gone
    assert settled_plan(ledger_in(tmp_path)[0], other) == first


def test_a_raised_budget_makes_a_new_plan_with_the_same_folds(tmp_path):
    ledger, _ = ledger_in(tmp_path)
    first = settled_plan(ledger, situation(seconds=30.0))
    raised = settled_plan(ledger, situation(seconds=3600.0, spent=30.0))
    assert raised.splits == first.splits
    assert raised.dear_seconds > first.dear_seconds
    assert raised.budget_seconds == 3600.0
    assert settled_plan(ledger, situation(seconds=3600.0)) == raised


def test_more_trials_make_a_new_plan_where_only_they_are_limited(tmp_path):
    ledger, _ = ledger_in(tmp_path)
    few = settled_plan(ledger, situation(seconds=None, trials=8))
    assert settled_plan(ledger, situation(seconds=None, trials=8)) == few
    many = settled_plan(ledger, situation(seconds=None, trials=80))
    assert len(few.backbones) == 1 < len(many.backbones)
    assert many.splits == few.splits


def test_a_plan_from_before_trials_were_noted_is_read():
    plan = draw_plan(situation())
    values = {k: v for k, v in plan.to_json().items() if k != "trials"}
    assert Plan.from_json(values) == plan


def test_a_backbone_that_is_gone_makes_a_new_plan_with_the_same_folds(tmp_path):
    ledger, _ = ledger_in(tmp_path)
    first = settled_plan(ledger, situation(seconds=30.0))
    now = situation(seconds=30.0)
    cards = now.workload.cards[1:]
    fewer = replace(now, workload=replace(now.workload, cards=cards))
    plan = settled_plan(ledger, fewer)
    assert set(plan.backbones) <= {card.id for card in cards}
    assert plan.splits == first.splits


def test_a_study_from_before_there_were_plans_keeps_its_folds(tmp_path):
    ledger, space = ledger_in(tmp_path)
    number = ledger.start(space.default(method="tfidf"))
    ledger.finish(number, Outcome(status="done", mean=0.5, scores=(0.5,)))
    plan = settled_plan(ledger, situation(seconds=3600.0))
    assert plan.splits == Splits(folds=4, repeats=5, dear_repeats=1)


def test_a_plan_of_another_version_is_refused():
    with pytest.raises(LedgerError, match="version"):
        Plan.from_json({"budget_seconds": 3.0, "splits": {"fold": 3}})
