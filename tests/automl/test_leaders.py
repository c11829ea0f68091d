from fewshot_automl.automl.leaders import foremost, unstopped
from fewshot_automl.oracle.folds import resumable
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config


def trial(name, mean, folds_left=0, flops=1.0):
    outcome = Outcome(
        status="done", mean=mean, folds_left=folds_left, objectives={"flops": flops}
    )
    return Config.of({"method": name}), outcome


def names(history, is_allowed=lambda outcome: True):
    return [config.text("method") for config in foremost(history, is_allowed)]


def test_lucky_looks_do_not_hide_what_will_have_to_be_fitted():
    history = [trial("full", 0.8), trial("probe", 0.7), trial("lora", 0.78, 2)]
    assert names(history) == ["full", "probe"]


def test_of_looks_that_lead_only_the_best_counts():
    history = [trial("full", 0.8), trial("a", 0.9, 2), trial("b", 0.95, 2)]
    assert names(history) == ["b", "full"]
    assert names([*history, trial("b", 0.6)]) == ["a", "full", "b"]


def test_what_breaks_limits_leads_only_if_all_do():
    history = [trial("full", 0.8, flops=9.0), trial("probe", 0.7)]

    def is_small(outcome):
        return outcome.objectives["flops"] < 5

    assert names(history, is_small) == ["probe"]
    assert names(history[:1], is_small) == ["full"]
    assert names([], is_small) == []


def test_a_look_whose_rest_ran_out_of_time_still_has_folds_left():
    config, look = trial("lora", 0.8, 2)
    history = [(config, look), (config, Outcome(status="stopped"))]
    assert resumable(history) == []
    assert resumable(unstopped(history)) == [config]
