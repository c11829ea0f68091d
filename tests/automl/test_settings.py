import json

import pytest

from fewshot_automl.automl.fit import _settings
from fewshot_automl.automl.settings import Settings
from fewshot_automl.errors import UserError


def test_round_trip_through_json():
    settings = Settings(
        target="y",
        metric="macro_f1",
        budget_seconds=None,
        trials=7,
        backbones=("a", "b"),
        methods=("probe",),
        objectives=("latency_ms", "worst_recall"),
        max_parameters=5e6,
        min_worst_recall=0.5,
        seed=3,
        is_strict=True,
        storage="sqlite:///x.db",
        workers=2,
    )
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_an_older_record_may_lack_or_have_more_fields():
    assert Settings.from_json({"seed": 2, "moon": "full"}) == Settings(seed=2)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"budget_seconds": None}, "time or a number of trials"),
        ({"seed": -1}, "Seed must be 0 or more"),
        ({"methods": ()}, "methods must name at least one"),
        ({"backbones": ()}, "backbones must name at least one"),
        ({"objectives": ("latency",)}, "No objective named 'latency'. Closest: 'lat"),
        ({"max_parameters": 0.0}, "max_parameters must be more than 0, got 0"),
        ({"max_flops": -1.0}, "max_flops must be more than 0"),
        ({"max_latency_ms": float("nan")}, "max_latency_ms must be more than 0"),
        ({"max_memory_mb": float("inf")}, "max_memory_mb must be more than 0"),
        ({"min_worst_recall": 80.0}, "min_worst_recall must be from 0 to 1, got 80"),
    ],
)
def test_refuses_what_cannot_be_meant(values, words):
    with pytest.raises(UserError, match=words):
        Settings(**values)


def test_the_score_is_always_an_objective_and_stands_first():
    assert Settings().objectives == ("score",)
    asked = Settings(objectives=("flops", "score", "flops"))
    assert asked.objectives == ("score", "flops")
    assert [goal.maximise for goal in asked.goals] == [True, False]


def test_limits_name_what_they_bound():
    settings = Settings(max_memory_mb=100.0, min_worst_recall=0.6)
    assert [(m.name, m.most, m.least) for m in settings.limits] == [
        ("memory_mb", 100.0, None),
        ("worst_recall", None, 0.6),
    ]


NOTHING = {
    "target": None,
    "budget": None,
    "trials": None,
    "metric": None,
    "backbones": None,
    "methods": None,
    "objectives": None,
    "limits": {"max_parameters": None},
    "prior": None,
    "seed": 0,
}


def test_arguments_win_over_settings_only_where_they_are_given():
    base = Settings(
        target="y", budget_seconds=60.0, trials=5, seed=9, methods=("lora",)
    )
    assert _settings(base, **NOTHING) == base
    given = _settings(
        base,
        **{**NOTHING, "target": "z", "budget": "2min", "seed": 1, "methods": ["probe"]},
    )
    asked = {"objectives": ["flops"], "limits": {"max_parameters": 5e6}}
    wanted = _settings(base, **{**NOTHING, **asked})
    assert wanted.objectives == ("score", "flops")
    assert wanted.max_parameters == 5e6
    assert _settings(wanted, **NOTHING) == wanted
    assert (given.target, given.budget_seconds, given.seed) == ("z", 120.0, 1)
    assert (given.methods, given.trials) == (("probe",), 5)


def test_a_budget_is_five_minutes_seconds_words_or_none():
    def seconds(budget, **more):
        return _settings(
            Settings(), **{**NOTHING, "budget": budget, **more}
        ).budget_seconds

    assert seconds(None) == 300.0
    assert seconds(45.0) == 45.0
    assert seconds("1.5h") == 5400.0
    assert seconds("none", trials=3) is None
    with pytest.raises(UserError, match="got neither"):
        seconds("none")
