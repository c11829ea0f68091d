import numpy as np
import pytest
from policy_numbers import config_of, done

from fewshot_automl.outcome import Outcome
from fewshot_automl.policy.costs import PARTS
from fewshot_automl.space import Config

TRUE = {"load": 2.5, "encode": 0.6, "train": 3.0, "head": 0.4}
"""How much slower each part is on a made-up machine."""
RUNNING = Outcome(status="running")


def true_seconds(costs, config, history):
    plain = costs.after([(c, RUNNING) for c, _ in history])
    parts = plain.arithmetic.parts(config, plain.folds(config), plain.have)
    return float(np.dot(parts, [TRUE[part] for part in PARTS]))


def lived_through(costs, configs, noise=0.0):
    """Return the history of a machine whose parts take `TRUE` times arithmetic."""
    rng = np.random.default_rng(0)
    history = []
    for config in configs:
        seconds = true_seconds(costs, config, history)
        seconds *= float(np.exp(noise * rng.normal()))
        history.append((config, done(seconds, folds=costs.folds(config))))
    return history


def test_before_any_trial_it_is_arithmetic(costs):
    config = Config.of({"method": "majority"})
    assert costs.seconds(config) == pytest.approx(0.12)
    assert costs.refit_seconds(config) == pytest.approx(0.01)
    assert costs.scoring_seconds(config, 1000) == 0
    each = costs.arithmetic.pass_seconds("middle")
    probe = config_of("probe")
    assert costs.scoring_seconds(probe, 1000) == pytest.approx(1000 * each)
    assert costs.setup_seconds(probe) == pytest.approx(0.5 + 48 * each)


def test_activations_are_paid_for_once_by_all_that_read_them(costs):
    after = costs.after([(config_of(), RUNNING)])
    same, other = config_of("lora", rank=8), config_of(backbone="small")
    assert after.seconds(same) < costs.seconds(same)
    assert after.seconds(other) == costs.seconds(other)


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_one_training_trial_corrects_the_next(costs, factor):
    first = config_of()
    learnt = costs.after([(first, done(factor * costs.seconds(first)))])
    unpaid = costs.after([(first, RUNNING)])
    near, far = config_of(steps=20), config_of("partial_freeze", "small")
    assert learnt.seconds(near) / unpaid.seconds(near) == pytest.approx(factor, rel=0.2)
    assert learnt.seconds(far) / unpaid.seconds(far) == pytest.approx(factor, rel=0.45)


def test_two_training_trials_in_it_is_within_a_quarter(costs):
    """On a machine whose every part is wrong, under 10 % noise."""
    names = ("small", "middle", "large")
    cheap = [config_of("probe", n, head=h) for n in names for h in ("logistic", "lda")]
    seen = [*cheap, config_of(), config_of("partial_freeze")]
    history = lived_through(costs, seen, noise=0.1)
    learnt = costs.after(history)
    for config in (
        config_of(steps=120),
        config_of(backbone="large", batch_size=32),
        config_of("lora", rank=8, steps=20),
        config_of(frozen_fraction=0.0, steps=80),
    ):
        expected = true_seconds(costs, config, history)
        assert learnt.seconds(config) == pytest.approx(expected, rel=0.25)


def test_one_slow_trial_among_many_is_forgiven(costs):
    history = lived_through(costs, [config_of(steps=s) for s in range(20, 60, 5)])
    slow = list(history)
    slow[3] = slow[3][0], done(10 * slow[3][1].cost_seconds)
    config = config_of(steps=70)
    expected = costs.after(history).seconds(config)
    assert costs.after(slow).seconds(config) == pytest.approx(expected, rel=0.2)


def test_a_stopped_trial_is_a_bound_and_no_more(costs):
    config = config_of()
    plain = costs.seconds(config)

    def stopped(seconds):
        outcome = Outcome(status="stopped", cost_seconds=seconds, reason="why")
        return costs.after([(config, outcome)]).seconds(config)

    assert stopped(0.1 * plain) == pytest.approx(plain, rel=0.01)
    assert stopped(10 * plain) > 6 * plain


@pytest.mark.parametrize("status", ["done", "stopped", "running"])
def test_what_cannot_be_compared_teaches_nothing(costs, status):
    outcome = done(30.0) if status == "done" else Outcome(status=status)
    failed = Outcome(status="failed", cost_seconds=9e9, reason="why")
    gone = [(config_of(backbone="gone"), outcome), (config_of(), failed)]
    assert costs.after(gone) == costs.after([])
    kept = [(config_of(), done(3.0))]
    assert costs.after(gone + kept) == costs.after(kept)
