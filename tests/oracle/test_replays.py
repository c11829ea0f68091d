"""The replays of `benchmarks/oracle.py`, on a landscape made up here."""

import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fewshot_automl.trial.design import dear_space

from fewshot_automl.oracle.candidates import sobol_configs
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import REFINEMENT

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
        "refinement_loss_first": round(1.1 - score + 0.1 * np.sin(number), 4),
    }


@pytest.fixture(scope="module")
def folder(parts, tmp_path_factory):
    from parts.replay_facts import known
    from parts.replay_landscape import embedded, space_of

    path = tmp_path_factory.mktemp("landscapes")
    for name in ("trec6", "subj"):
        facts = known()[name]
        cards = embedded(facts.modality)
        space = space_of(facts, cards)
        quick = [
            space.default(method="majority"),
            space.default(method="tfidf"),
            *(space.default(method="prototype", backbone=card.id) for card in cards),
            *(space.default(method="probe", backbone=card.id) for card in cards),
        ]
        rows = [_row(c, i, seconds=[0.1] * 9) for i, c in enumerate(quick)]
        rows[0] |= {"mean": 0.2, "unseen": 0.2}
        drawn = itertools.islice(sobol_configs(dear_space(space), 3, 32), 14)
        rows += [_row(c, i, seconds=[3.0, 2.0, 2.0]) for i, c in enumerate(drawn, 9)]
        failed = {**rows.pop(), "status": "failed", "reason": "diverged"}
        lines = [json.dumps(row) for row in (*rows, failed)]
        (path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (path / "trec6.transfer.json").write_text(
        json.dumps({cards[0].id: {"transfer_logme": 1.5}})
    )
    return path


@pytest.fixture
def landscape(folder):
    from parts.replay_landscape import Landscape

    return Landscape.load(folder / "trec6.jsonl")


def test_a_landscape_is_its_files(landscape, folder):
    from parts.replay_landscape import Landscape

    assert len(landscape.dear) == 14
    advised = [t for t in landscape.quick if "transfer_logme" in t.outcome.measures]
    assert {t.config.text("backbone") for t in advised} == {landscape.cards[0].id}
    assert not any("transfer_logme" in t.outcome.measures for t in landscape.dear)
    assert landscape.trials[landscape.dear[-1].config].outcome.status == "failed"
    shorter = Landscape.load(folder / "trec6.jsonl", 12)
    assert len(shorter.trials) == 12
    assert shorter.digest != landscape.digest


def test_a_config_of_another_space_is_refused(folder, tmp_path):
    from parts.replay_landscape import Landscape

    line = json.loads((folder / "trec6.jsonl").read_text().splitlines()[-2])
    line["config"]["steps"] = 900
    (tmp_path / "trec6.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(SystemExit, match="Record it anew"):
        Landscape.load(tmp_path / "trec6.jsonl")


def test_regret_is_0_at_the_best_and_1_at_the_majority_class(landscape):
    best = max(
        (t for t in landscape.trials.values() if t.outcome.is_done),
        key=lambda trial: trial.unseen,
    )
    assert landscape.regret(best.config) == 0.0
    assert landscape.regret(landscape.space.default(method="majority")) == 1.0
    top = max(landscape.quick, key=lambda trial: trial.outcome.mean)
    assert 0 <= landscape.regret(top.config, recorded=True) < 1


def test_activations_are_paid_once(landscape):
    trial, paid = landscape.dear[0], set()
    first = landscape.outcome(trial, paid).cost_seconds
    assert first == pytest.approx(0.25 + 1.0 + 6.0)  # prepared, waited, three fits
    assert landscape.outcome(trial, paid).cost_seconds == pytest.approx(6.0)
    assert landscape.outcome(trial, paid, 1 / 3).cost_seconds == pytest.approx(2.0)


def test_a_row_of_scores_alone_is_told_no_loss(folder):
    from parts.replay_jobs import blind, files_in

    for one in blind(files_in(folder)).values():
        for trial in (*one.quick, *one.dear):
            told = set(trial.outcome.measures)
            assert not told & {REFINEMENT}
            assert ("worst_recall" in told) == trial.outcome.is_done


def test_a_landscape_without_losses_is_refused(folder, tmp_path):
    from parts.replay_landscape import Landscape

    text = (folder / "trec6.jsonl").read_text()
    (tmp_path / "trec6.jsonl").write_text(text.replace("refinement_loss", "old", 1))
    with pytest.raises(SystemExit, match=r"must tell .* record it anew"):
        Landscape.load(tmp_path / "trec6.jsonl")


def test_a_share_is_the_same_for_a_seed(landscape):
    kept = landscape.part(0.5, 1).dear
    assert len(kept) == 7
    assert kept == landscape.part(0.5, 1).dear != landscape.part(0.5, 2).dear
    assert landscape.part(1.0, 1).dear == landscape.dear


def test_the_nearest_of_a_pool_is_itself_or_much_like_it(landscape):
    from parts.replay_samplers import nearest

    pool = [trial.config for trial in landscape.dear]
    assert nearest(landscape, pool[3], pool) == pool[3]
    other = nearest(landscape, pool[3], pool[:3] + pool[4:])
    assert other != pool[3]
    alike = [c for c in pool if c["method"] == pool[3]["method"] and c != pool[3]]
    assert not alike or other.text("backbone") or other in alike


@pytest.mark.parametrize(
    "row",
    [
        "ours",
        "scores alone",
        "no descriptors",
        "random",
        "tpe",
        "optuna gp",
        pytest.param("botorch", marks=pytest.mark.slow),
    ],
)
def test_a_row_picks_untried_configs_and_repeats_itself(folder, row):
    from parts.replay_jobs import files_in, load, scene_of
    from parts.replay_rows import sampler_of
    from parts.replay_study import replay

    scene = scene_of(load(files_in(folder)), "subj")
    assert [one.name for one in scene.others] == ["trec6"]
    scene = replace(scene, landscape=scene.landscape.part(0.2, 0))
    curves = [
        replay(scene.landscape, sampler_of(row, scene), trials, seed=4)
        for trials in (5, 2)
    ]
    assert len(curves[0].seconds) == 1 + 3, "then there is nothing left"
    for rule in ("raw", "smooth"):
        assert curves[0].unseen[rule][:3] == curves[1].unseen[rule]
    assert curves[0].seconds[:3] == curves[1].seconds
    assert curves[0].best_seen == sorted(curves[0].best_seen, reverse=True)


def test_an_oracle_that_wants_anything_gets_what_is_near(landscape):
    from parts.replay_samplers import snapped_oracle

    history = [(trial.config, trial.outcome) for trial in landscape.quick]
    left = [trial.config for trial in landscape.dear]
    assert snapped_oracle(landscape, GpOracle())(history, left, 0) in left


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


def _regrets(values):
    from parts.replay_figures import Regrets

    values = np.array(values)
    cells = tuple(("task", seed) for seed in range(len(values)))
    steps = np.arange(values.shape[1], dtype=float)
    return Regrets(cells, values, np.tile(steps, (len(values), 1)))


def test_figures_of_known_regrets():
    from parts.replay_figures import (
        cost_to_reach,
        difference,
        interval,
        trials_to_match,
        trials_to_reach,
        wide_interval,
    )

    ours = _regrets([[0.4, 0.02, 0.2, 0.0], [0.4, 0.04, 0.2, 0.0]])
    other = _regrets([[0.4, 0.4, 0.3, 0.2], [0.4, 0.4, 0.3, 0.2]])
    assert trials_to_reach(ours, 0.05) == 3, "for good, not for a while"
    assert trials_to_reach(other, 0.05) is None
    assert trials_to_match(ours, other) == 1
    assert cost_to_reach(ours, 0.05, {"task": 2.0}) == 1.5
    (mean, low, high), _ = difference(other, ours, 1)
    assert low <= mean <= high
    assert mean == pytest.approx(0.37)
    assert interval(np.full(5, 0.3)) == pytest.approx((0.3, 0.3, 0.3))
    assert wide_interval(np.array([0.1, 0.3]), ours.cells)[0] == pytest.approx(0.2)
