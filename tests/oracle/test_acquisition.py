"""The search asks BoTorch in a cheaper way, and gets the same answers."""

import numpy as np
import pytest

from fewshot_automl.oracle import GpOracle, RandomOracle
from fewshot_automl.oracle.scores import calm
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Float, Space, When

LORA = (When("method", ("lora",)),)
SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora", "full")),
        Float(name="rate", low=1e-4, high=1e-1, log=True, when=LORA),
        Float(name="mix", low=0.0, high=1.0),
    )
)


def score(config):
    bonus = 1 - (config["rate"] - 1e-2) ** 2 if "rate" in config else 0.3
    return bonus - (config["mix"] - 0.4) ** 2


def history_of(count, running=0, seed=0):
    luck = np.random.default_rng(seed)
    configs = RandomOracle().suggest(SPACE, [], count + running, seed)
    done = [
        (c, Outcome(status="done", mean=score(c) + 0.1 * luck.normal(),
                    standard_error=0.1))
        for c in configs[:count]
    ]  # fmt: skip
    return [*done, *((c, Outcome(status="running")) for c in configs[count:])]


def search_of(history, seed=3):
    from fewshot_automl.oracle.acquisition import Search

    return Search(SPACE, history, GpOracle(), seed)


@pytest.mark.parametrize(("count", "running"), [(8, 0), (30, 0), (30, 4)])
def test_gains_are_what_botorch_says_of_each_candidate_with_all_that_was_seen(
    count, running
):
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.sampling import SobolQMCNormalSampler

    history = history_of(count, running)
    pool = RandomOracle().suggest(SPACE, history, 60, 1)
    with calm(3):
        search = search_of(history)
        gains = search.gains(pool)
    with calm(3), torch.no_grad():
        model, rows = search.fitted["score"].model, search.rows
        acquisition = qLogNoisyExpectedImprovement(
            model,
            rows([config for config, _ in history[:count]]),
            SobolQMCNormalSampler(torch.Size([64]), seed=3),
            X_pending=rows([c for c, _ in history[count:]]) if running else None,
        )
        expected = acquisition(rows(pool)[:, None]).numpy()
    np.testing.assert_allclose(gains, expected, rtol=1e-6, atol=1e-6)
    assert np.ptp(expected) > 1


def test_a_batch_spreads_out_more_than_the_best_alone():
    with calm(3):
        search = search_of(history_of(20))
        pool = RandomOracle().suggest(SPACE, search.history, 300, 1)
        gains = search.gains(pool)
        batch = search.best(pool, gains, 16)
    alone = [pool[i] for i in np.argsort(-gains)[:16]]
    assert batch[0] == alone[0]
    assert len(set(batch)) == 16

    def nearest(configs):
        rows = search.rows.encoding.encode(configs)
        away = np.linalg.norm(rows[:, None] - rows[None], axis=2)
        return (away + np.diag([np.inf] * 16)).min(axis=0).mean()

    assert nearest(batch) > nearest(alone)


def test_parameters_are_fitted_to_some_trials_and_the_posterior_is_of_all(monkeypatch):
    from fewshot_automl.oracle import model

    monkeypatch.setattr(model, "MOST_FITTED", 25)
    history = history_of(60, seed=5)
    with calm(3):
        search = search_of(history)
    process = search.fitted["score"].model
    assert len(process.train_targets) == 60
    said = np.array(list(search.fitted["score"].means.values()))
    truth = [score(config) for config, _ in history]
    assert np.corrcoef(said, truth)[0, 1] > 0.95
    monkeypatch.setattr(model, "MOST_FITTED", 60)
    model._fitted.cache_clear()
    with calm(3):
        every = search_of(history).fitted["score"].model
    assert process.covar_module.raw_variance != every.covar_module.raw_variance
