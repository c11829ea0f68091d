import pytest
from policy_numbers import FLOPS, METHODS, lived, opening_for, trains

from fewshot_automl.oracle import Aims, Limit, Past, Prior, SobolOracle
from fewshot_automl.outcome import Outcome


def backbones(history, trained):
    return [
        config.text("backbone")
        for config, _ in history
        if trains(config) == trained and "backbone" in config
    ]


def by_backbone(**scores):
    return lambda config: scores.get(str(config.get("backbone", "")), 0.1)


@pytest.mark.parametrize("method", [row.name for row in METHODS])
@pytest.mark.parametrize("seconds", [60.0, None])
def test_any_method_alone_has_an_opening(method, seconds):
    opening = opening_for(seconds, methods=(method,))
    history = lived(opening)
    assert {config.text("method") for config, _ in history} == {method}
    assert all(opening.allowed.leader.space.contains(c) for c, _ in history)


def test_cheap_methods_on_every_planned_backbone_come_first():
    history = lived(opening_for(120.0))
    first = [trains(config) for config, _ in history].index(True)
    assert set(backbones(history[:first], trained=False)) == set(FLOPS)
    assert all(trains(config) for config, _ in history[first:])
    late = [c for c, _ in history if c.get("head", "") == "rbf" and not trains(c)]
    assert len(late) == 1


def test_no_new_backbone_is_begun_where_rung_zero_runs_late():
    history = lived(opening_for(60.0), slower=20.0, most=12)
    probed = set(backbones(history, trained=False))
    assert "small" in probed
    assert "large" not in probed


def test_no_training_trial_is_longer_than_planned_if_it_has_one_fold():
    for seconds, slower in ((30.0, 3.0), (300.0, 0.5)):
        opening = opening_for(seconds)
        most, seen, longer = opening.allowed.plan.trial_seconds, [], []
        for config, outcome in lived(opening, slower, most=30):
            known, seconds = [c for c, _ in seen], opening.allowed.costs.after(seen)
            is_longer = trains(config) and seconds.seconds(config, 1) > most
            if is_longer and any(map(trains, known)):
                longer.append(config)
            seen.append((config, outcome))
        assert not longer


def test_a_backbone_too_slow_to_train_makes_room_for_the_next():
    history = lived(
        opening_for(120.0, rate=1.5e10),
        score=by_backbone(small=0.5, middle=0.6, large=0.9),
    )
    assert backbones(history, trained=True)[0] == "middle"


@pytest.mark.parametrize(
    ("seconds", "names", "steps"),
    [
        (60.0, ["large"], 10),
        (120.0, ["large"], 20),
        (300.0, ["large", "middle"], 10),
        (1800.0, ["large", "middle"], 20),
    ],
)
def test_the_strongest_backbone_is_trained_first_as_long_as_time_allows(
    seconds, names, steps
):
    score = by_backbone(small=0.5, middle=0.6, large=0.7)
    trained = [c for c, _ in lived(opening_for(seconds), score=score) if trains(c)]
    assert list(dict.fromkeys(c.text("backbone") for c in trained))[:2] == names
    first = trained[0]
    assert first.text("method") == "contrastive"
    assert (first["frozen_fraction"], first["steps"]) == (0.5, steps)


def test_one_training_trial_is_tried_where_none_is_expected_to_fit():
    history = lived(opening_for(60.0, rate=2e9), most=40)
    assert sum(trains(config) for config, _ in history) >= 1


def test_the_opening_ends():
    for seconds in (120.0, None):
        history = lived(opening_for(seconds))
        assert len(history) < 200
        assert len({config for config, _ in history}) == len(history)


def without(measure):
    """Return aims of which Configs of this measure keep none."""
    return Aims(limits=(Limit("odd", most=0.5),), exact={"odd": measure})


def test_what_cannot_keep_a_limit_is_not_begun():
    aims = without(lambda config: float("rank" in config))
    trained = [c for c, _ in lived(opening_for(300.0, aims=aims)) if trains(c)]
    assert trained
    assert not any("rank" in config for config in trained)
    assert any("rank" in config for config, _ in lived(opening_for(300.0)))


def test_the_opening_ends_where_nothing_that_trains_keeps_the_limits():
    aims = without(lambda config: float(trains(config)))
    history = lived(opening_for(300.0, aims=aims))
    assert history
    assert not any(trains(config) for config, _ in history)


def test_trusted_past_studies_choose_among_the_space_filling_configs():
    def rate_of(config):
        return 1.0 - config.get("frozen_fraction", 1.0)

    opening = opening_for(None)
    space = opening.allowed.leader.space
    seen = lived(opening, most=60, score=rate_of)
    narrowed = space.narrow("method", [row.name for row in METHODS if row.trains])
    draws = SobolOracle().suggest(narrowed, [], 64, 5)
    scored = [(c, Outcome(status="done", mean=rate_of(c))) for c in draws]
    past = Past.of("past", space, scored)
    advised = opening_for(None, prior=Prior(studies=(past,)))
    (plain,) = opening(seen[:-1])[-1:]
    (other,) = advised(seen[:-1])[-1:]
    assert plain == seen[-1][0]
    assert rate_of(other) > rate_of(plain)
