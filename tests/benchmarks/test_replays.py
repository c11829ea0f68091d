"""The replays of `benchmarks/oracle.py`, on a landscape made up here."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl.oracle.candidates import sobol_configs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
pytestmark = pytest.mark.filterwarnings(
    # groups of TPE, Optuna's GP sampler; BoTorch's use of torch.jit
    "ignore:.*experimental feature",
    "ignore:.torch.jit",
)


@pytest.fixture(scope="module", autouse=True)
def parts():
    """The benchmarks find their parts beside them, as when they are run."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


def _row(config, number, *, seconds):
    score = round(0.4 + 0.3 * np.sin(number) ** 2, 4)
    return {
        "config": config.to_json(),
        "price": 3.0,
        "status": "done",
        "scores": [score] * len(seconds),
        "mean": score,
        "standard_error": 0.05,
        "seconds": seconds,
        "prepared": 0.25,
        "unseen": round(score + 0.02 * np.cos(number), 4),
        "worst_recall": 0.1,
        "refinement_loss": round(1.0 - score + 0.1 * np.cos(3 * number), 4),
    }


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    from landscape import training_space
    from parts.replay_facts import known
    from parts.replay_landscape import recorded_cards, space_of

    path = tmp_path_factory.mktemp("landscapes")
    for name in ("trec6", "subj"):
        facts = known()[name]
        cards = recorded_cards(facts.modality)
        space = space_of(facts, cards)
        quick = [
            space.default(method="majority"),
            space.default(method="tfidf"),
            *(space.default(method="prototype", backbone=card.id) for card in cards),
            *(space.default(method="probe", backbone=card.id) for card in cards),
        ]
        rows = [_row(c, i, seconds=[0.1] * 9) for i, c in enumerate(quick)]
        rows[0] |= {"mean": 0.2, "unseen": 0.2}
        drawn = itertools.islice(sobol_configs(training_space(space), 3, 32), 14)
        rows += [_row(c, i, seconds=[3.0, 2.0, 2.0]) for i, c in enumerate(drawn, 9)]
        failed = {**rows.pop(), "status": "failed", "reason": "diverged"}
        lines = [json.dumps(row) for row in (*rows, failed)]
        (path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def landscape(folder):
    from parts.replay_landscape import Landscape

    return Landscape.load(folder / "trec6.jsonl")


def test_a_landscape_is_its_files(landscape, folder):
    from parts.replay_landscape import Landscape

    assert len(landscape.training) == 14
    assert landscape.trials[landscape.training[-1].config].outcome.status == "failed"
    shorter = Landscape.load(folder / "trec6.jsonl", 12)
    assert len(shorter.trials) == 12
    assert shorter.digest != landscape.digest


def test_regret_is_0_at_the_best_and_1_at_the_majority_class(landscape):
    best = max(
        (t for t in landscape.trials.values() if t.outcome.is_done),
        key=lambda trial: trial.unseen,
    )
    assert landscape.regret(best.config) == 0.0
    assert landscape.regret(landscape.space.default(method="majority")) == 1.0
    top = max(landscape.cheap, key=lambda trial: trial.outcome.mean)
    assert 0 <= landscape.regret(top.config, recorded=True) < 1


@pytest.mark.parametrize(
    "row",
    [
        "ours",
        "flat kernel",
        "random",
        "tpe",
        "optuna gp",
        pytest.param("botorch", marks=pytest.mark.slow),
        pytest.param("botorch, advised, posterior mean", marks=pytest.mark.slow),
    ],
)
def test_a_row_picks_untried_configs_and_repeats_itself(folder, row):
    from parts.replay_jobs import files_in, load, scene_of
    from parts.replay_rows import ROWS
    from parts.replay_study import replay

    scene = scene_of(load(files_in(folder)), "subj")
    assert [one.name for one in scene.others] == ["trec6"]
    scene = replace(scene, landscape=scene.landscape.part(0.2, 0))
    curves = [
        replay(scene.landscape, ROWS[row](scene), trials, seed=4) for trials in (5, 2)
    ]
    assert len(curves[0].seconds) == 1 + 3, "then there is nothing left"
    for rule in ("raw", "smooth"):
        assert curves[0].unseen[rule][:3] == curves[1].unseen[rule]
    assert curves[0].seconds[:3] == curves[1].seconds
    assert curves[0].best_seen == sorted(curves[0].best_seen, reverse=True)


def test_a_task_never_advises_itself(folder):
    from parts.replay_jobs import files_in, load, scene_of

    landscapes = load(files_in(folder))
    for name in landscapes:
        names = [study.name for study in scene_of(landscapes, name).prior.studies]
        assert names == [other for other in sorted(landscapes) if other != name]


def test_a_dimension_that_is_new_since_has_its_default(folder, landscape):
    from parts.replay_landscape import config_of

    config = landscape.training[0].config
    values = config.to_json()
    del values["steps"]
    found = config_of({"config": {**values, "gone": 1}}, landscape.space)
    assert found["steps"] == landscape.space["steps"].default
    assert {**found.to_json(), "steps": config["steps"]} == config.to_json()


def test_finished_replays_are_kept(folder, tmp_path, capsys):
    from parts.replay_jobs import curves_of, files_in, jobs_for

    def made():
        jobs = jobs_for(
            files_in(folder), ["subj"], {"random": 2, "sobol": 1}, trials=3, share=0.8
        )
        return list(curves_of(jobs, tmp_path / "curves.jsonl", workers=1))

    first = made()
    assert "0 replays kept, 3 to do" in capsys.readouterr().out
    assert sorted(made(), key=lambda c: c.key) == sorted(first, key=lambda c: c.key)
    assert "3 replays kept, 0 to do" in capsys.readouterr().out
