import json
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl.automl.fit import _settings
from fewshot_automl.automl.settings import Settings, plain
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
        inputs={"text": "review"},
        narrow={"rank": (4, 16)},
        limits={"max_parameters": 5e6, "min_worst_recall": 0.5},
        seed=3,
        is_strict=True,
        storage="postgresql://me@host:5432/studies",
        study="both",
        workers=2,
    )
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"budget_seconds": None}, "time or a number of trials"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"methods": ()}, "methods must name at least one"),
        ({"backbones": ()}, "backbones must name at least one"),
        ({"study": "both"}, "Study must go with a storage"),
        ({"storage": "postgresql://me:word@host/db"}, "a URL without a password"),
        ({"oracle": "delphi"}, "No oracle named 'delphi'"),
        ({"executor": "butler"}, "No executor named 'butler'"),
        ({"methods": ("probes",)}, "No method named 'probes'. Closest: 'probe'"),
        ({"target_kind": "class"}, "No target kind named 'class'. Closest: 'classes'"),
        ({"objectives": ("latency",)}, "No objective named 'latency'. Closest: 'lat"),
        (
            {"limits": {"max_parameters": 0.0}},
            "max_parameters must be more than 0, got 0",
        ),
        ({"limits": {"max_flops": -1.0}}, "max_flops must be more than 0"),
        (
            {"limits": {"max_latency_ms": float("nan")}},
            "max_latency_ms must be more than 0",
        ),
        (
            {"limits": {"max_memory_mb": float("inf")}},
            "max_memory_mb must be more than 0",
        ),
        ({"limits": {"max_weight": 1.0}}, "No limit named 'max_weight'"),
        ({"inputs": {"smell": "x"}}, "No input named 'smell'"),
        ({"processes": 2, "workers": 2}, "processes must be 2 or more for"),
        ({"executor": "ranks"}, "processes must be 2 or more for"),
        ({"executor": "ray"}, "workers must be given for the executor ray"),
        ({"address": "here:6379"}, "Address must go with the executor ray"),
        (
            {"limits": {"min_worst_recall": 80.0}},
            "min_worst_recall must be from 0 to 1, got 80",
        ),
    ],
)
def test_refuses_what_cannot_be_meant(values, words):
    with pytest.raises(UserError, match=words):
        Settings(**values)


def test_workers_alone_are_processes():
    chosen = [Settings(), Settings(workers=2), Settings(executor="loky")]
    assert [one.runs_in for one in chosen] == ["auto", "loky", "loky"]
    assert Settings(executor="auto", workers=1).runs_in == "in_process"
    old = Settings.from_json({**Settings().to_json(), "executor": None, "workers": 1})
    assert old.runs_in == "in_process"  # as it was begun by an earlier version
    new = ("processes", "address", "study")
    known = {n: value for n, value in old.to_json().items() if n not in new}
    assert Settings.from_json(known) == old


def test_the_score_is_always_an_objective_and_stands_first():
    assert Settings().objectives == ("score",)
    asked = Settings(objectives=("flops", "score", "flops"))
    assert asked.objectives == ("score", "flops")
    assert [one.maximise for one in asked.aims.objectives] == [True, False]


def test_limits_name_what_they_bound():
    settings = Settings(limits={"max_memory_mb": 100.0, "min_worst_recall": 0.6})
    assert [(m.name, m.most, m.least) for m in settings.aims.limits] == [
        ("memory_mb", 100.0, None),
        ("worst_recall", None, 0.6),
    ]


def test_arguments_win_over_settings_only_where_they_are_given():
    base = Settings(target="y", budget_seconds=60.0, trials=5, methods=("lora",))
    nothing = dict.fromkeys(("target", "trials", "methods", "limits"))
    assert _settings(base, None, **nothing) == base
    given = {**nothing, "target": "z", "limits": {"max_flops": 1e9}}
    found = _settings(base, "2min", **given)
    assert (found.target, found.budget_seconds, found.trials) == ("z", 120.0, 5)
    assert found.limits == {"max_flops": 1e9}


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [(None, 300.0), (45.0, 45.0), ("1.5h", 5400.0), ("none", None)],
)
def test_a_budget_is_five_minutes_seconds_words_or_none(budget, seconds):
    assert _settings(Settings(trials=3), budget).budget_seconds == seconds


def test_some_budget_there_must_be():
    with pytest.raises(UserError, match="got neither"):
        _settings(Settings(), "none")


@pytest.mark.parametrize(
    ("name", "given", "kept"),
    [
        ("methods", "probe", ("probe",)),
        ("backbones", np.array(["a", "b"]), ("a", "b")),
        ("workers", np.int8(2), 2),
        ("budget_seconds", np.float32(2.5), 2.5),
        (
            "narrow",
            {"rank": np.array([4, 8]), "head": "lda"},
            {"rank": (4, 8), "head": ("lda",)},
        ),
        ("inputs", {"text": 3}, {"text": "3"}),
        ("prior", Path("p.json"), "p.json"),
    ],
)
def test_what_python_gives_is_made_plain(name, given, kept):
    made = plain({name: given})
    assert made == {name: kept}
    assert Settings.from_json(json.loads(json.dumps(made))) == Settings(**made)


@pytest.mark.parametrize(
    ("name", "given"),
    [("trials", 2.5), ("seed", "three"), ("limits", 5), ("narrow", 1)],
)
def test_what_cannot_be_made_plain_is_named(name, given):
    with pytest.raises(UserError, match=f"{name} must be .*, got .*{given}"):
        plain({name: given})
