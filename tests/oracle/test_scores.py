import numpy as np
import pytest

from fewshot_automl.oracle.scores import (
    Scale,
    done_scores,
    regularised,
    winsorised,
)
from fewshot_automl.outcome import REFINEMENT, Outcome
from fewshot_automl.space import Config


def history(means, losses):
    return [
        (
            Config.of({"x": i}),
            Outcome(
                status="done",
                mean=float(mean),
                standard_error=0.05,
                measures={} if loss is None else {REFINEMENT: float(loss)},
            ),
        )
        for i, (mean, loss) in enumerate(zip(means, losses, strict=True))
    ]


MEANS = np.array([0.9, 0.7, 0.75, 0.6, 0.5, 0.45, 0.3])
LOSSES = np.array([0.9, 0.5, 0.6, 0.8, 1.0, 1.1, 1.3])


def test_a_lucky_score_is_moved_down_to_what_its_loss_lets_expect():
    moved = regularised(MEANS, LOSSES)
    assert moved[0] < MEANS[0] - 0.1
    assert moved[1] > moved[0]
    assert np.argmax(MEANS) == 0


def test_nothing_is_moved_where_losses_tell_nothing():
    for scores, losses in (
        (MEANS, -LOSSES),  # a line that rises
        (MEANS[:5], LOSSES[:5]),  # few
        (MEANS, np.ones(7)),
        (np.full(7, 0.5), LOSSES),
    ):
        assert regularised(scores, losses) is scores


def test_a_score_far_below_all_others_stays_where_it_is():
    moved = regularised(np.append(MEANS, -50.0), np.append(LOSSES, 0.4))
    assert moved[-1] == -50.0
    np.testing.assert_allclose(moved[:-1], MEANS, atol=0.5)


def test_scores_are_regularised_only_if_asked_and_if_all_tell_their_loss():
    known = history(MEANS, LOSSES)
    plain = [score for score, _ in done_scores(known, regularise=False).values()]
    assert plain == MEANS.tolist()
    moved = [score for score, _ in done_scores(known, regularise=True).values()]
    assert moved == regularised(MEANS, LOSSES).tolist()
    partly = history(MEANS, [*LOSSES[:-1], None])
    same = [score for score, _ in done_scores(partly, regularise=True).values()]
    assert same == MEANS.tolist()


def test_a_diverged_training_does_not_flatten_the_others():
    fenced = winsorised(np.array([0.5, 0.6, 0.7, 0.8, -1e9]))
    assert fenced[-1] == pytest.approx(0.5 - 3 * 0.2)
    assert fenced[:-1].tolist() == [0.5, 0.6, 0.7, 0.8]


@pytest.mark.parametrize("is_cost", [False, True])
def test_a_scale_is_standard_and_more_is_better(is_cost):
    values = np.array([1.0, 3.0, 10.0, 40.0])
    standard = Scale.of(values, is_cost=is_cost)(values)
    assert standard.mean() == pytest.approx(0)
    assert standard.std() == pytest.approx(1)
    assert (np.diff(standard) < 0).all() == is_cost


def test_a_missing_error_counts_as_the_usual_one():
    known = history(MEANS[:3], LOSSES[:3])
    doubtful = [*known, (Config.of({"x": 9}), Outcome(status="done", mean=0.5))]
    assert done_scores(doubtful, regularise=False)[3] == (0.5, 0.05)
    (error,) = [e for _, e in done_scores(doubtful[3:], regularise=False).values()]
    assert np.isnan(error)
