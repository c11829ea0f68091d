"""The oracle chooses between a new Config and the folds that are left of another."""

import numpy as np

from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Float, Space

SPACE = Space((Float(name="x", low=0.0, high=1.0),))
FOLDS = (0.02, 0.0, -0.02)


def worth(config):
    return 0.5 + 0.4 * float(config["x"])


def told(config, folds=3, lift=0.0):
    scores = tuple(worth(config) + lift + effect for effect in FOLDS[:folds])
    return Outcome(
        status="done",
        scores=scores,
        mean=float(np.mean(scores)),
        standard_error=0.03 / np.sqrt(folds / 3),
        folds_left=3 - folds,
    )


def at(x):
    return Config.of({"x": x})


WHOLE = [(at(x), told(at(x))) for x in (0.0, 0.15, 0.3, 0.45, 0.6)]


def asked(history, n=1, seed=0):
    return GpOracle().suggest(SPACE, history, n, seed)


def test_a_look_that_promises_much_gets_its_other_folds():
    history = [*WHOLE, (at(0.99), told(at(0.99), folds=1))]
    assert asked(history) == [at(0.99)]


def test_a_look_that_is_hopeless_does_not():
    history = [*WHOLE, (at(0.05), told(at(0.05), folds=1))]
    assert at(0.05) not in asked(history, n=8)


def test_a_whole_trial_is_not_suggested_again():
    looked = (at(0.99), told(at(0.99), folds=1))
    history = [*WHOLE, looked, (at(0.99), told(at(0.99)))]
    assert at(0.99) not in asked(history, n=8)


def test_a_look_under_way_is_not_suggested_again():
    looked = (at(0.99), told(at(0.99), folds=1))
    history = [*WHOLE, looked, (at(0.99), Outcome(status="running"))]
    assert at(0.99) not in asked(history, n=8)


def test_outside_the_part_that_is_asked_for_no_look_is_continued():
    history = [*WHOLE, (at(0.99), told(at(0.99), folds=1))]
    part = SPACE.narrow("x", (0.0, 0.5))
    assert GpOracle().suggest(SPACE, history, 3, 0, part) != [at(0.99)]


def test_a_study_of_looks_alone_can_go_on():
    history = [(at(x), told(at(x), folds=1)) for x in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert asked(history)[0]["x"] > 0.5
