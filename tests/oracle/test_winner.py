import numpy as np
from fewshot_automl.oracle.winner import shrunken, smoothed_scores

from fewshot_automl.oracle import RandomOracle, incumbent
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Space

LINE = Space((Float(name="x", low=0.0, high=1.0),))


def done(mean, error=0.01):
    return Outcome(status="done", mean=mean, standard_error=error)


def at(x):
    return Config.of({"x": x})


def test_there_is_no_incumbent_without_a_done_trial():
    assert incumbent(LINE, [], 0) is None
    history = [
        (at(0.1), Outcome(status="failed")),
        (at(0.2), Outcome(status="running")),
    ]
    assert incumbent(LINE, history, 0) is None


def test_with_few_trials_a_noisy_record_loses_to_a_sure_second():
    history = [
        (at(0.1), done(0.60)),
        (at(0.5), done(0.92, 0.20)),
        (at(0.9), done(0.88)),
        (at(0.7), Outcome(status="failed")),
    ]
    assert incumbent(LINE, history, 0) == 2


def test_the_posterior_mean_decides_and_not_luck():
    """A lone lucky score far from the peak loses to the middle of a good region."""
    places = np.linspace(0.0, 1.0, 21)
    history = [(at(float(x)), done(0.8 - 0.5 * (x - 0.7) ** 2, 0.03)) for x in places]
    history[2] = (history[2][0], done(0.85, 0.10))
    best = incumbent(LINE, history, 0)
    assert max(range(21), key=lambda i: history[i][1].mean) == 2
    assert best is not None
    assert abs(places[best] - 0.7) < 0.1
    assert incumbent(LINE, history, 0) == best


def test_ties_go_to_the_earlier_trial():
    history = [(at(x), done(0.5)) for x in (0.1, 0.2, 0.3)]
    assert incumbent(LINE, history, 0) == 0


def test_missing_standard_errors_are_no_trouble():
    history = [(at(x), done(x, float("nan"))) for x in (0.1, 0.9, 0.3)]
    assert incumbent(LINE, history, 0) == 1


def test_trials_the_space_does_not_know_compete_with_shrunken_scores():
    space = Space((Choice(name="method", options=("probe", "lora")),))
    history = [
        (Config.of({"method": "probe"}), done(0.5)),
        (Config.of({"baseline": "tfidf"}), done(0.9)),
    ]
    assert incumbent(space, history, 0) == 1


def test_index_counts_every_status():
    history = [(at(0.0), Outcome(status="running"))]
    for config in RandomOracle().suggest(LINE, [], 10, 0):
        history.append((config, Outcome(status="failed")))
        history.append((config, done(-abs(config["x"] - 0.5), 0.001)))
    best = incumbent(LINE, history, 0)
    assert best is not None
    assert history[best][1].is_done


def test_shrinkage_keeps_what_noise_does_not_explain():
    means = np.array([0.0, 1.0])
    np.testing.assert_allclose(shrunken(means, np.array([0.0, 0.0])), means)
    low, high = shrunken(means, np.array([9.0, 9.0]))
    assert 0.499 < low < 0.5 < high < 0.501  # hardly apart, in order
    np.testing.assert_allclose(shrunken(means, np.array([np.nan, 0.0])), means)


def test_a_trial_that_went_wrong_does_not_win_by_its_neighbours():
    """Its standard error is large, but it is no trial that says nothing."""
    space = Space((Float(name="x", low=0.0, high=1.0),))
    history = [
        (
            Config.of({"x": x}),
            Outcome(
                status="done",
                scores=(0.9 + x / 50, 0.91 + x / 50, 0.89 + x / 50, 0.9 + x / 50),
                mean=0.9 + x / 50,
                standard_error=0.01,
            ),
        )
        for x in np.linspace(0.0, 0.9, 12).tolist()
    ]
    wrong = Outcome(
        status="done", scores=(0.1, 0.1, 0.1, 0.9), mean=0.3, standard_error=0.2
    )
    history.append((Config.of({"x": 0.95}), wrong))
    assert incumbent(space, history, seed=0) != len(history) - 1
    assert smoothed_scores(space, history, seed=0)[len(history) - 1] < 0.8
