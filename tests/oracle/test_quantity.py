import numpy as np
import pytest
from fewshot_automl.oracle.goals import SCORE, Aims, Goal, Limit
from fewshot_automl.oracle.process import Points
from fewshot_automl.oracle.quantity import Quantity, Scale

from fewshot_automl.errors import UserError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Float, Space

LINE = Space((Float(name="x", low=0.0, high=1.0),))
COSTLY = Aims(
    goals=(Goal(SCORE), Goal("flops", maximise=False)),
    limits=(Limit("worst_recall", least=0.5), Limit("latency_ms", most=3.0)),
)


def at(x):
    return Config.of({"x": float(x)})


def done(**objectives):
    return Outcome(status="done", mean=0.5, measures=objectives)


def learnt(name, history):
    return Quantity.learnt(name, LINE, history, COSTLY, steps=20, seed=0)


def test_costs_are_compared_by_ratios_and_qualities_by_differences():
    flops = Scale.of("flops", np.array([1e6, 1e9]), COSTLY).with_unit(0.0, 1.0)
    a, b, c = flops.standard(np.array([1e6, 1e7, 1e8]))
    assert a > b > c
    assert a - b == pytest.approx(b - c)
    recall = Scale.of("worst_recall", np.array([0.1, 0.9]), COSTLY)
    np.testing.assert_allclose(np.diff(recall.standard(np.array([0.1, 0.2, 0.3]))), 0.1)
    # Nothing at all is a tenth of the least that is something.
    with_none = Scale.of("flops", np.array([0.0, 1e6]), COSTLY)
    np.testing.assert_allclose(with_none.standard(np.array([0.0])), -np.log(1e5))
    below = Scale.of("flops", np.array([-1.0, 1e6]), COSTLY)
    assert below.floor is None


def test_scales_turn_back_and_turn_limits():
    scale = Scale(sign=-1.0, floor=1e-3, centre=-2.0, unit=3.0)
    values = np.array([0.01, 1.0, 70.0])
    np.testing.assert_allclose(scale.natural(scale.standard(values)), values)
    assert scale.standard_range(None, 70.0) == (scale.standard_of(70.0), np.inf)
    assert scale.standard_range(0.01, None) == (-np.inf, scale.standard_of(0.01))
    plain = Scale(sign=1.0, floor=None, centre=1.0, unit=2.0)
    assert plain.standard_range(0.0, 3.0) == (-0.5, 1.0)
    assert plain.standard_range(None, 3.0) == (-np.inf, 1.0)


@pytest.mark.parametrize("unit", [1e-12, 1.0, 1e12])
def test_what_was_measured_is_learnt_in_any_unit(unit):
    history = [(at(x), done(latency_ms=unit * (1 + 9 * x))) for x in np.arange(9) / 8]
    history += [(at(0.4), done()), (at(0.9), Outcome(status="failed"))]
    quantity = learnt("latency_ms", history)
    view = quantity.look_up([at(0.3), at(0.8)])
    assert isinstance(view, Points)
    found = quantity.scale.natural(view.means) / unit
    np.testing.assert_allclose(found, [3.7, 8.2], rtol=0.1)
    assert view.means[0] > view.means[1]


def test_the_last_trial_of_a_config_speaks_for_it():
    history = [(at(x), done(worst_recall=x)) for x in (0.1, 0.5, 0.9)]
    history += [(at(0.5), done(worst_recall=0.6))]
    quantity = learnt("worst_recall", history)
    assert quantity.surrogate is not None
    assert len(quantity.surrogate.evidence.history) == 3


def test_what_is_the_same_everywhere_is_taken_as_known():
    assert learnt("latency_ms", [(at(0.1), done())]) is None
    for history in (
        [(at(0.1), done(latency_ms=7.0))],
        [(at(x), done(latency_ms=7.0)) for x in (0.1, 0.5)],
    ):
        quantity = learnt("latency_ms", history)
        view = quantity.look_up([at(0.2)])
        assert not isinstance(view, Points)
        assert quantity.scale.natural(view) == pytest.approx(7.0)


def test_what_a_config_fixes_is_worked_out():
    configs = [at(x) for x in (0.1, 0.5, 0.9)]
    quantity = Quantity.exact("flops", lambda c: 10 ** c.number("x"), configs, COSTLY)
    values = quantity.look_up(configs)
    np.testing.assert_allclose(values.mean(), 0, atol=1e-12)
    np.testing.assert_allclose(values.std(), 1)
    assert values[0] > values[2]
    broken = Quantity(name="flops", scale=quantity.scale, known=lambda _: np.nan)
    with pytest.raises(UserError, match="flops must be finite"):
        broken.look_up(configs)
