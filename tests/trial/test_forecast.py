import numpy as np
import pytest

from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial.evaluate import Evaluate
from fewshot_automl.trial.forecast import (
    REMEMBERED,
    Forecast,
    Lesson,
    learn,
    matrix_product_rate,
)
from fewshot_automl.trial.workload import HEAD_SECONDS, Workload, mean_characters

TRUE = {"load": 2.5, "encode": 0.6, "train": 3.0, "head": 0.4}
"""How much dearer each part is on a made-up machine."""


@pytest.fixture
def workload(tiny_cards):
    return Workload(
        cards=tuple(
            tiny_cards[name] for name in ("tiny-bert", "tiny-mpnet", "tiny-roberta")
        ),
        examples=48,
        characters=60.0,
        rate=2e7,
        quick_fits=12,
        dear_fits=4,
    )


@pytest.fixture
def forecast(workload):
    return Forecast(workload=workload)


def probe(backbone="tiny-bert", **values):
    return Config.of(
        {"method": "probe", "backbone": backbone, "head": "logistic", **values}
    )


def tuned(method="contrastive", backbone="tiny-bert", **values):
    plain = {"frozen_fraction": 0.5, "steps": 40, "batch_size": 16}
    return Config.of({"method": method, "backbone": backbone, **plain, **values})


def ended(seconds, fits=4, status="done"):
    scores = (0.5,) * fits if status == "done" else ()
    reason = "" if status == "done" else "why"
    return Outcome(
        status=status, mean=0.5, scores=scores, cost_seconds=seconds, reason=reason
    )


def lived(forecast, configs, factors=TRUE, noise=0.0):
    """Return the history of a machine where parts cost `factors` of arithmetic."""
    rng = np.random.default_rng(0)
    history = []
    for config in configs:
        history.append(
            (config, ended(true_seconds(forecast, config, history, factors)))
        )
        history[-1] = (
            config,
            ended(
                history[-1][1].cost_seconds * float(np.exp(noise * rng.normal())),
                forecast.workload.fits(config),
            ),
        )
    return history


def true_seconds(forecast, config, history, factors=TRUE):
    plain = Forecast(workload=forecast.workload)
    unpaid = plain.after([(c, Outcome(status="running")) for c, _ in history])
    return float(
        unpaid._parts(config, plain.workload.fits(config)) @ list(factors.values())
    )


def test_measures_this_machine():
    assert 1e8 < matrix_product_rate(rows=256, width=128) < 1e15


def test_before_any_trial_it_is_arithmetic(forecast, workload):
    prices = forecast.after([])
    config = Config.of({"method": "tfidf"})
    assert prices.trial_seconds(config) == pytest.approx(12 * HEAD_SECONDS)
    assert prices.refit_seconds(config) == pytest.approx(HEAD_SECONDS)
    assert prices.scoring_seconds(config, 1000) == 0
    each = workload.pass_seconds("tiny-bert")
    assert prices.scoring_seconds(probe(), 1000) == pytest.approx(1000 * each)
    assert prices.embedding_seconds("tiny-bert") > 48 * each


def test_activations_are_paid_for_once_by_all_that_round_to_their_block(forecast):
    before = forecast.after([])
    history = [(tuned(frozen_fraction=0.5), Outcome(status="running"))]
    after = forecast.after(history)
    for config in (
        tuned("partial_freeze", frozen_fraction=0.55),
        tuned("lora", rank=8, frozen_fraction=0.45),
    ):
        assert after.trial_seconds(config) < before.trial_seconds(config)
    other = tuned(backbone="tiny-mpnet")
    assert after.trial_seconds(other) == before.trial_seconds(other)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_one_dear_trial_corrects_the_next(forecast, factor):
    """Training steps twice as fast as thought must be known after a trial or two."""
    first = tuned(steps=40)
    plain = forecast.after([])
    history = [(first, ended(factor * plain.trial_seconds(first)))]
    prices = forecast.after(history)
    unpaid = forecast.after([(first, Outcome(status="running"))])
    nearer = tuned(steps=20)
    asked = prices.trial_seconds(nearer) / unpaid.trial_seconds(nearer)
    assert asked == pytest.approx(factor, rel=0.15)
    farther = tuned("partial_freeze", backbone="tiny-mpnet")
    asked = prices.trial_seconds(farther) / unpaid.trial_seconds(farther)
    assert asked == pytest.approx(factor, rel=0.4)


def test_quick_trials_say_nothing_about_training(forecast):
    history = [
        (Config.of({"method": "tfidf"}), ended(20.0, 12)),
        (Config.of({"method": "majority"}), ended(1e-4, 12)),
    ]
    config = tuned()
    before = forecast.after([]).trial_seconds(config)
    assert forecast.after(history).trial_seconds(config) == pytest.approx(
        before, rel=0.5
    )


def test_two_dear_trials_in_it_is_within_a_fifth(forecast):
    """On a machine whose every part is wrong, under 10 % noise."""
    names = ("tiny-bert", "tiny-mpnet", "tiny-roberta")
    opening = [probe(name, head=head) for name in names for head in ("logistic", "lda")]
    seen = [*opening, tuned(), tuned("partial_freeze")]
    history = lived(forecast, seen, noise=0.1)
    prices = forecast.after(history)
    for config in (
        tuned(steps=120),
        tuned(backbone="tiny-mpnet", batch_size=32),
        tuned("lora", rank=8, steps=20),
        tuned(frozen_fraction=0.0, steps=80),
    ):
        expected = true_seconds(forecast, config, history)
        assert prices.trial_seconds(config) == pytest.approx(expected, rel=0.25)


def test_one_slow_trial_among_many_is_forgiven(forecast):
    configs = [tuned(steps=steps) for steps in range(20, 60, 5)]
    history = lived(forecast, configs)
    slow = [
        (c, ended(10 * o.cost_seconds if i == 3 else o.cost_seconds))
        for i, (c, o) in enumerate(history)
    ]
    config = tuned(steps=70)
    expected = forecast.after(history).trial_seconds(config)
    assert forecast.after(slow).trial_seconds(config) == pytest.approx(
        expected, rel=0.2
    )


def test_a_stopped_trial_is_a_bound_and_no_more(forecast):
    config = tuned()
    plain = forecast.after([]).trial_seconds(config)
    soon = [(config, ended(0.1 * plain, status="stopped"))]
    assert forecast.after(soon).trial_seconds(config) == pytest.approx(plain, rel=0.01)
    late = [(config, ended(10 * plain, status="stopped"))]
    assert forecast.after(late).trial_seconds(config) > 6 * plain


def test_failures_teach_nothing(forecast):
    config = tuned()
    failed = [(config, ended(9e9, status="failed"))]
    assert forecast.after(failed) == forecast.after([])


@pytest.mark.parametrize("status", ["done", "stopped", "running", "failed"])
def test_trials_on_a_backbone_that_is_gone_teach_nothing(forecast, status):
    gone = [
        (config, ended(30.0, status=status))
        for config in (probe("gone"), tuned(backbone="gone"))
    ]
    assert forecast.after(gone) == forecast.after([])
    kept = [(tuned(), ended(3.0))]
    assert forecast.after(gone + kept) == forecast.after(kept)


def test_a_config_that_was_slow_will_be_slow_again(forecast):
    history = lived(forecast, [tuned(steps=steps) for steps in (20, 30, 40, 50)])
    prices = forecast.after(history)
    slower = [
        (c, ended(1.3 * o.cost_seconds if i == 2 else o.cost_seconds))
        for i, (c, o) in enumerate(history)
    ]
    same, other = tuned(steps=40), tuned(steps=45)
    changed = forecast.after(slower)
    gain = [changed.refit_seconds(c) / prices.refit_seconds(c) for c in (same, other)]
    assert gain[0] > gain[1] > 0.95


def test_a_refit_is_one_fit_with_everything_paid(forecast):
    config = tuned()
    history = lived(forecast, [config])
    prices = forecast.after(history)
    whole = prices.trial_seconds(config)
    assert prices.refit_seconds(config) == pytest.approx(whole / 4)


def test_only_the_latest_trials_are_learnt_from(forecast):
    old = [(tuned(steps=20 + i), ended(500.0)) for i in range(5)]
    new = lived(forecast, [tuned(steps=20 + i) for i in range(5, REMEMBERED + 5)])
    config = tuned(steps=100)
    assert forecast.after(old + new).trial_seconds(config) == pytest.approx(
        forecast.after(new).trial_seconds(config), rel=0.05
    )


def test_absurd_numbers_do_not_break_it():
    config = tuned()
    for seconds in (0.0, 1e-12, 1e9):
        lesson = Lesson(
            config=config, parts=np.array([0, 0, 1e-9, 0.0]), seconds=seconds
        )
        assert all(np.isfinite(value) for value in learn([lesson] * 3).values())
    assert learn([]) == {}


def test_what_a_trial_took_is_what_it_is_said_to_take(workbench, space):
    problem = workbench.problem
    workload = Workload(
        cards=workbench.cards,
        examples=len(problem.inputs),
        characters=mean_characters(problem.inputs),
        rate=matrix_product_rate(rows=64, width=32),
        quick_fits=len(problem.folds),
        dear_fits=len(problem.folds.first),
    )
    config = space.default(method="prototype")
    history = [(config, Evaluate(workbench=workbench)(config, None)) for _ in "abc"]
    again = Forecast(workload=workload).after(history).trial_seconds(config)
    took = sorted(outcome.cost_seconds for _, outcome in history)
    assert took[0] / 5 < again < took[-1] * 5
