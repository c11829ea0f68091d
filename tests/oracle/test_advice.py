"""What advice does to the surrogate: it leads, and is followed while it is right."""

from dataclasses import dataclass

import numpy as np
import pytest
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.likelihood import Pairs
from fewshot_automl.oracle.surrogate import fit_scores, likelihood_of, standardised

from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Space

SPACE = Space(
    (
        Choice(name="backbone", options=tuple("abcdef")),
        Float(name="rate", low=0.0, high=1.0),
    )
)
WORTH = {name: place for place, name in enumerate("abcdef")}


@dataclass(frozen=True)
class Says:
    """Foretells the worth of a backbone, rightly or wrongly."""

    sign: float
    mean: float = 0.8
    deviation: float = 0.4

    @property
    def weights(self):
        return ((self.mean, self.deviation),)

    def advise(self, space, history, configs):
        worth = np.array([WORTH[config.text("backbone")] for config in configs])
        return self.sign * (worth[:, None] - 2.5) / 1.7


def told(config):
    return Outcome(
        status="done",
        mean=WORTH[config.text("backbone")] + float(config["rate"]) / 10,
        standard_error=0.05,
    )


def history(*names):
    configs = [
        Config.of({"backbone": name, "rate": rate})
        for name, rate in zip(
            names, np.linspace(0.1, 0.9, len(names)).tolist(), strict=True
        )
    ]
    return [(config, told(config)) for config in configs]


def first(adviser, seen):
    oracle = GpOracle(advisers=(adviser,))
    return oracle.suggest(SPACE, seen, 1, seed=0)[0].text("backbone")


def test_right_advice_is_followed_before_anything_like_it_was_seen():
    assert first(Says(1.0), history("a", "b", "a", "b")) == "f"


def test_wrong_advice_is_overruled_by_the_trials():
    assert first(Says(-1.0), history("a", "b", "d", "e")) in "def"


def test_weights_are_learnt():
    seen = history(*"abcdef", "a", "c", "e")
    rows = []
    for sign in (1.0, -1.0):
        evidence = Evidence.of(SPACE, seen, (Says(sign, 0.0, 1.0),))
        rows.append(fit_scores(evidence, steps=60, seed=0).means(evidence.rows("done")))
    assert rows[0] == pytest.approx(rows[1])


def test_the_gradient_is_that_of_the_loss_with_advice():
    evidence = Evidence.of(SPACE, history(*"abcdef", "b"), (Says(1.0),))
    scores = standardised(*evidence.scores().T)
    pairs = Pairs(evidence.layout, evidence.rows("done"))
    likelihood = likelihood_of(pairs, scores, 1e-4)
    logs = likelihood.priors.log_modes + 0.1
    _, slope = likelihood.loss(logs)
    for place in range(len(logs)):
        step = np.zeros(len(logs))
        step[place] = 1e-5
        change = likelihood.loss(logs + step)[0] - likelihood.loss(logs - step)[0]
        assert slope[place] == pytest.approx(change / 2e-5, rel=1e-4, abs=1e-7)


def test_far_from_all_trials_the_mean_is_the_advice():
    evidence = Evidence.of(SPACE, history("a", "b", "c"), (Says(1.0),))
    process = fit_scores(evidence, steps=60, seed=0).process
    points = process.look_up(
        evidence.encode([Config.of({"backbone": "f", "rate": 1.0})])
    )
    assert points.variances()[0] > 0
    assert points.means[0] > process.means(evidence.rows("done")).max()
