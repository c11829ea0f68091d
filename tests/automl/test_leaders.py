from fewshot_automl.automl.leaders import foremost
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config


def trial(name, mean, flops=1.0):
    outcome = Outcome(status="done", mean=mean, measures={"flops": flops})
    return Config.of({"method": name}), outcome


def names(history, is_allowed=lambda outcome: True):
    return [config.text("method") for config in foremost(history, is_allowed)]


def test_what_breaks_limits_leads_only_if_all_do():
    history = [trial("full", 0.8, flops=9.0), trial("probe", 0.7)]

    def is_small(outcome):
        return outcome.measures["flops"] < 5

    assert names(history) == ["full", "probe"]
    assert names(history, is_small) == ["probe"]
    assert names(history[:1], is_small) == ["full"]
    assert names([], is_small) == []
