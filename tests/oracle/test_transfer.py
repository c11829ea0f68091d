"""Transfer scores become advice about the options they belong to."""

import numpy as np
import pytest
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.transfer import COLUMNS, Column, TransferAdviser
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Space, When

NAMES = ("small", "middle", "large")
SPACE = Space(
    (
        Choice(name="method", options=("plain", "probe", "tune")),
        Choice(
            name="backbone",
            options=NAMES,
            descriptors=((1.0,), (2.0,), (3.0,)),
            when=(When("method", ("probe", "tune")),),
        ),
        Float(name="rate", low=0.0, high=1.0, when=(When("method", ("tune",)),)),
    )
)
ONE = TransferAdviser(
    columns=(Column(scores=("knn", "probe"), mean=0.5, deviation=1.0),)
)


def probed(name, head=0.5, **scores):
    objectives = {f"transfer_{key}": value for key, value in scores.items()}
    return (
        Config.of({"method": "probe", "backbone": name}),
        Outcome(status="done", mean=head, standard_error=0.1, measures=objectives),
    )


def tune(name):
    return Config.of({"method": "tune", "backbone": name, "rate": 0.5})


TUNES = [tune(name) for name in NAMES]
HISTORY = [
    probed("small", knn=0.2, probe=0.4),
    probed("middle", knn=0.4, probe=0.6),
    probed("large", knn=0.6, probe=0.8),
]


def test_it_is_an_adviser_with_a_weight_for_each_column():
    adviser = TransferAdviser()
    assert isinstance(adviser, Adviser)
    assert adviser.weights == tuple((c.mean, c.deviation) for c in COLUMNS)
    assert adviser.advise(SPACE, HISTORY, TUNES).shape == (3, len(COLUMNS))


def test_columns_are_standardised_over_the_options():
    told = ONE.advise(SPACE, HISTORY, TUNES)[:, 0]
    np.testing.assert_allclose(told, np.sqrt(1.5) * np.array([-1, 0, 1]), atol=1e-12)
    assert told.std() == pytest.approx(1)


def test_scores_of_an_option_are_averaged_over_its_trials():
    twice = [probed("small", knn=0.0), probed("small", knn=0.4), *HISTORY[1:]]
    told = ONE.advise(SPACE, twice, TUNES)
    mean = ONE.advise(SPACE, [probed("small", knn=0.2), *HISTORY[1:]], TUNES)
    np.testing.assert_allclose(told, mean)


def test_an_option_without_scores_stands_between_the_others():
    told = ONE.advise(SPACE, [HISTORY[0], HISTORY[2]], TUNES)[:, 0]
    np.testing.assert_allclose(told, [-1, 0, 1])


@pytest.mark.parametrize(
    "history",
    [
        [],
        HISTORY[:1],
        [probed(name, knn=0.5) for name in NAMES],
        [(TUNES[0], Outcome(status="failed", reason="memory"))],
        [probed("unheard-of", knn=0.5), HISTORY[0]],
    ],
)
def test_it_is_silent_where_it_knows_nothing(history):
    assert not ONE.advise(SPACE, history, TUNES).any()


def test_a_unit_keeps_small_differences_small():
    column = Column(scores=("prior",), mean=1.0, deviation=1.0, unit=2.0)
    adviser = TransferAdviser(columns=(column,))
    history = [probed("small", prior=-3.2), probed("large", prior=-3.0)]
    told = adviser.advise(SPACE, history, TUNES)[:, 0]
    np.testing.assert_allclose(told, [-0.05, 0, 0.05])


def test_it_is_silent_about_configs_without_an_option():
    told = ONE.advise(SPACE, HISTORY, [Config.of({"method": "plain"}), TUNES[2]])
    assert told[0, 0] == 0
    assert told[1, 0] > 0


def test_a_space_without_descriptors_has_no_advice():
    bare = Space((Choice(name="backbone", options=("small", "large")),))
    assert not ONE.advise(bare, HISTORY, [Config.of({"backbone": "large"})]).any()


@given(
    scores=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3),
    factor=st.floats(0.1, 10),
)
@settings(max_examples=30, deadline=None)
def test_the_unit_of_a_score_does_not_matter(scores, factor):
    told = [
        ONE.advise(
            SPACE,
            [
                probed(name, knn=unit * score)
                for name, score in zip(NAMES, scores, strict=True)
            ],
            TUNES,
        )
        for unit in (1.0, factor)
    ]
    assert np.isfinite(told[0]).all()
    np.testing.assert_allclose(told[0], told[1], atol=1e-5)


def test_an_oracle_follows_it_first_and_the_trials_after():
    oracle = GpOracle(advisers=(TransferAdviser(),))
    quick = [
        probed("small", 0.60, logme=-0.6, h_score=0.7, knn=0.5, probe=0.60, prior=-3.0),
        probed("middle", 0.62, logme=-0.5, h_score=0.8, knn=0.6, probe=0.6, prior=-2.5),
        probed("large", 0.61, logme=-0.2, h_score=0.9, knn=0.8, probe=0.7, prior=-1.0),
    ]
    within = TUNES
    picked = oracle.suggest(SPACE, quick, 1, 0, within=within)[0]
    assert picked.text("backbone") == "large"
    spoken = [
        *quick,
        *(
            (
                Config.of({"method": "tune", "backbone": name, "rate": rate}),
                Outcome(status="done", mean=mean, standard_error=0.01),
            )
            for name, mean in (("large", 0.4), ("small", 0.9), ("middle", 0.6))
            for rate in (0.3, 0.7)
        ),
    ]
    picked = oracle.suggest(SPACE, spoken, 1, 0, within=within)[0]
    assert picked.text("backbone") == "small"
