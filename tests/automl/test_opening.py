from dataclasses import replace

import pytest
from fewshot_automl.automl.opening import Opening
from fewshot_automl.automl.plan import Situation, draw_plan
from fewshot_automl.trial.design import dear_space, is_dear, reference_ladder, space_for
from fewshot_automl.trial.forecast import Forecast

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.oracle.past import Past
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.sampling import sobol_configs
from fewshot_automl.outcome import Outcome
from fewshot_automl.tasks import Task
from fewshot_automl.trial.workload import Workload

NAMES = ("minilm-l3", "minilm-l6", "mpnet-base")
TASK = Task(modality="text", names=("a", "b", "c", "d", "e", "f"))


def opening_for(seconds, rate=1.2e11, methods=None):
    zoo = Zoo.known()
    cards = tuple(zoo[name] for name in NAMES)
    space = space_for(Profile(task=TASK, class_counts=(8,) * 6), cards, methods)
    workload = Workload(cards=cards, examples=48, characters=50.0, rate=rate)
    plan = draw_plan(
        Situation(
            workload=workload,
            reference=tuple(reference_ladder(space, 48)),
            budget_seconds=seconds,
            spent_seconds=4.0,
        )
    )
    workload = replace(workload, quick_fits=12, dear_fits=plan.splits.folds)
    return Opening(space=space, forecast=Forecast(workload=workload), plan=plan)


def lived(opening, slower=1.0, most=200, score=None):
    """Return the trials of an opening, each as dear as `slower` times arithmetic."""
    history = []
    while len(history) < most:
        tried = {config for config, _ in history}
        left = [config for config in opening(history) if config not in tried]
        if not left:
            break
        fits = opening.forecast.workload.fits(left[0])
        plain = Forecast(workload=opening.forecast.workload)
        seen = [(config, Outcome(status="running")) for config, _ in history]
        seconds = slower * plain.after(seen).trial_seconds(left[0])
        mean = score(left[0]) if score else 0.5
        outcome = Outcome(
            status="done", mean=mean, scores=(mean,) * fits, cost_seconds=seconds
        )
        history.append((left[0], outcome))
    return history


def backbones(history, dear):
    return [
        c.text("backbone") for c, _ in history if is_dear(c) == dear and "backbone" in c
    ]


def test_quick_methods_on_every_planned_backbone_come_first():
    opening = opening_for(120.0)
    history = lived(opening)
    quick = [is_dear(config) for config, _ in history].index(True)
    assert set(backbones(history[:quick], dear=False)) == set(NAMES)
    assert not any(not is_dear(config) for config, _ in history[quick:])


def test_no_new_backbone_is_begun_where_rung_zero_runs_late():
    history = lived(opening_for(60.0), slower=12.0, most=14)
    probed = set(backbones(history, dear=False))
    assert "minilm-l3" in probed
    assert "mpnet-base" not in probed


def test_both_losses_come_before_the_other_dear_methods():
    history = lived(opening_for(600.0), most=16)
    methods = [c.text("method") for c, _ in history if is_dear(c)]
    assert set(methods[:4]) == {"contrastive", "partial_freeze"}


def test_a_study_of_sixty_seconds_trains_half_of_a_backbone_first():
    history = lived(opening_for(60.0), most=13)
    first = next(config for config, _ in history if is_dear(config))
    assert first.text("method") == "contrastive"
    assert first["frozen_fraction"] == 0.5


def test_no_dear_trial_is_dearer_than_planned():
    for seconds, slower in ((30.0, 3.0), (300.0, 0.5)):
        opening = opening_for(seconds)
        seen = []
        for config, outcome in lived(opening, slower, most=18):
            if is_dear(config) and any(is_dear(c) for c, _ in seen):
                prices = opening.forecast.after(seen)
                assert prices.trial_seconds(config) <= opening.plan.dear_seconds
            seen.append((config, outcome))


def test_a_backbone_too_dear_to_train_makes_room_for_the_next():
    """The largest probes best, and a slow machine cannot train it within the plan."""
    score = {"minilm-l3": 0.5, "minilm-l6": 0.6, "mpnet-base": 0.9}
    history = lived(
        opening_for(120.0, rate=2e10),
        score=lambda c: score.get(str(c.get("backbone", "")), 0.1),
    )
    assert backbones(history, dear=True)[0] == "minilm-l6"


def test_one_dear_trial_is_tried_where_the_forecast_says_none_fits():
    opening = opening_for(60.0, rate=2e9)
    history = lived(opening, most=40)
    assert sum(is_dear(config) for config, _ in history) >= 1


def test_the_opening_ends():
    history = lived(opening_for(120.0))
    assert len(history) < 200
    assert len({config for config, _ in history}) == len(history)


@pytest.mark.parametrize("methods", [["majority"], ["probe"], ["lora"]])
def test_any_choice_of_methods_has_an_opening(methods):
    history = lived(opening_for(120.0, methods=methods))
    assert {config.text("method") for config, _ in history} == set(methods)


def test_without_a_limit_everything_is_tried():
    opening = opening_for(None)
    history = lived(opening)
    assert set(backbones(history, dear=True)) >= set(
        backbones(history, dear=False)[-1:]
    )
    assert len(set(backbones(history, dear=False))) == len(NAMES)


def test_the_best_backbone_gets_one_bold_trial_where_it_is_too_dear_for_more():
    """In 60 s, at twice the speed of arithmetic."""
    score = {"minilm-l3": 0.5, "minilm-l6": 0.6, "mpnet-base": 0.7}
    opening = opening_for(60.0)
    history = lived(
        opening,
        slower=0.5,
        score=lambda c: score.get(str(c.get("backbone", "")), 0.1),
        most=22,
    )
    dear = [config for config, _ in history if is_dear(config)]
    large = [c for c in dear if c.text("backbone") == "mpnet-base"]
    assert [c.text("method") for c in large] == ["contrastive"]
    assert dear.index(large[0]) == 1
    assert large[0]["frozen_fraction"] == 0.5


def test_a_quick_trial_that_does_not_fit_keeps_nothing_from_those_behind_it():
    opening = opening_for(120.0)
    history = lived(opening)[:4]
    left = [c for c in opening(history) if c not in {config for config, _ in history}]
    kinds = [is_dear(config) for config in left]
    assert not kinds[0], "rung 0 is not over"
    assert any(kinds)
    assert kinds == sorted(kinds), "what is dear comes behind it"


def test_trusted_past_studies_choose_among_the_space_filling_configs():
    opening = opening_for(None)
    seen = lived(opening, most=40, score=lambda config: rate_of(config))
    filling = [c for c, _ in seen if is_dear(c)][-1]
    draws = list(sobol_configs(dear_space(opening.space), 5, 64))
    past = Past.of(
        "past",
        opening.space,
        [(c, Outcome(status="done", mean=rate_of(c))) for c in draws],
    )
    advised = replace(opening, prior=Prior(studies=(past,)))
    place = next(i for i, (c, _) in enumerate(seen) if c == filling)
    (other,) = advised(seen[:place])[-1:]
    assert rate_of(other) > rate_of(filling)
    doubted = [(c, replace(o, mean=-o.mean)) for c, o in seen[:place]]
    assert advised(doubted)[-1:] == opening(doubted)[-1:]


def rate_of(config):
    """Return a score that rises with what is trained."""
    return 1.0 - config.get("frozen_fraction", 1.0)


def test_what_cannot_keep_a_limit_is_not_begun():
    """LoRA layers make a model larger than the same backbone trained in place."""
    opening = replace(opening_for(300.0), keeps=lambda config: "rank" not in config)
    dear = [config for config, _ in lived(opening) if is_dear(config)]
    assert dear
    assert not any("rank" in config for config in dear)
    assert any("rank" in config for config, _ in lived(opening_for(300.0)))


def test_the_opening_ends_where_nothing_dear_keeps_the_limits():
    opening = replace(opening_for(300.0), keeps=lambda config: not is_dear(config))
    history = lived(opening)
    assert history
    assert not any(is_dear(config) for config, _ in history)
