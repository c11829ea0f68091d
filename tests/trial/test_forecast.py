import pytest

from fewshot_automl.outcome import Outcome
from fewshot_automl.trial.evaluate import Evaluate
from fewshot_automl.trial.forecast import HEAD_SECONDS, Forecast, matrix_product_rate


@pytest.fixture
def forecast(workbench):
    return Forecast(workbench=workbench, rate=1e9)


def ended(seconds, fits):
    return Outcome(status="done", mean=0.5, scores=(0.5,) * fits, cost_seconds=seconds)


def test_measures_this_machine():
    assert 1e8 < matrix_product_rate() < 1e14


def test_encoding_costs_the_operations_of_all_examples(forecast):
    card = forecast.workbench.card("tiny-bert")
    lengths = [len(text) for text in forecast.workbench.problem.inputs]
    tokens = 2 + 0.25 * sum(lengths) / len(lengths)
    expected = 15 * card.flops * tokens / card.flops_at / 1e9
    assert forecast.embedding_seconds("tiny-bert") == pytest.approx(expected)


def test_quick_methods_pay_for_every_repeat(forecast, space):
    """They run 8 fits where a dear method runs 4."""
    config = space.default(method="tfidf")
    assert forecast.trial_seconds(config, []) == pytest.approx(8 * HEAD_SECONDS)
    seen = [(config, ended(16.0, 8))]
    other = space.default(method="majority")
    assert forecast.trial_seconds(other, seen) == pytest.approx(16.0)
    assert forecast.refit_seconds(config, seen) == pytest.approx(1.25 * 2.0)
    assert forecast.refit_seconds(other, seen) == pytest.approx(2.0)


def test_more_steps_bigger_batches_and_less_frozen_cost_more(forecast, space):
    def seconds(**values):
        return forecast.trial_seconds(space.default(method="contrastive", **values), [])

    assert seconds(steps=80) > 1.5 * seconds(steps=40) > 0
    assert seconds(batch_size=64) > seconds(batch_size=16)
    assert seconds(frozen_fraction=0.0) > seconds(frozen_fraction=0.8)


def test_activations_are_paid_for_once(forecast, space):
    config = space.default(method="probe")
    first = forecast.trial_seconds(config, [])
    assert first - 8 * HEAD_SECONDS == pytest.approx(
        forecast.embedding_seconds("tiny-bert")
    )
    true = [(config, ended(first, 8))]
    other = space.default(method="prototype")
    assert forecast.trial_seconds(other, true) == pytest.approx(8 * HEAD_SECONDS)


def test_history_corrects_what_arithmetic_says(forecast, space):
    config = space.default(method="contrastive", steps=20)
    other = space.default(method="contrastive", steps=40)
    plain = forecast.trial_seconds(config, [])
    history = [(config, ended(10 * plain, 4))]
    expected = 10 * forecast.trial_seconds(other, [(config, ended(plain, 4))])
    assert forecast.trial_seconds(other, history) == pytest.approx(expected, rel=0.01)
    # other dear methods learn from it as well, as long as there is nothing nearer
    lora = space.default(method="lora")
    assert forecast.trial_seconds(lora, history) > 5 * forecast.trial_seconds(lora, [])
    failed = [(config, Outcome(status="failed", reason="x", cost_seconds=9e9))]
    assert forecast.trial_seconds(config, failed) == plain


def test_what_a_trial_took_is_what_it_is_said_to_take(workbench, space):
    forecast = Forecast.measured(workbench)
    config = space.default(method="prototype")
    history = [(config, Evaluate(workbench=workbench)(config, None)) for _ in "abc"]
    again = forecast.trial_seconds(config, history)
    took = sorted(outcome.cost_seconds for _, outcome in history)
    assert took[0] / 5 < again < took[-1] * 5


def test_a_config_in_another_forecast_costs_a_fit_of_its_trial(forecast, space):
    config = space.default(method="contrastive")
    history = [(config, ended(8.0, 4))]
    assert forecast.refit_seconds(config, history) == pytest.approx(1.25 * 2.0)
