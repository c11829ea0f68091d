"""A study returns no model that breaks a limit where some trial keeps them all."""

from pathlib import Path

import numpy as np
import pytest

from fewshot_automl import Settings, fit
from fewshot_automl.automl import delivery, finish, fitting
from fewshot_automl.automl.limits import beside_limit
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.ledger import read_outputs
from fewshot_automl.oracle import Limit
from fewshot_automl.outcome import Outcome
from fewshot_automl.policy import leader
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task, metric_named
from fewshot_automl.trial import measures, size_of

TINY = Path(__file__).parents[1] / "zoo" / "text"
PREFIXES = ("max_", "min_")
SMALL, LARGE = "tiny-bert", "tiny-modernbert"
SLOW_SECONDS = {SMALL: 0.002, LARGE: 0.03}


@pytest.fixture
def home(tmp_path, tiny_cards, random_weights, monkeypatch):
    """Return a zoo of a small and a large tiny backbone, the large one on top."""
    home = tmp_path / "home"
    home.mkdir()
    for name in (SMALL, LARGE):
        card = (TINY / f"{name}.toml").read_text("utf-8")
        if name == LARGE:
            card = card.replace("flops = 1000000", "flops = 9000000")
        (home / f"{name}.toml").write_text(card, "utf-8")
        (home / name).symlink_to(random_weights(tiny_cards[name]))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(home))
    return home


@pytest.fixture
def large_is_best(monkeypatch):
    """Score trials by their backbone alone: the large one is the best."""

    def by_size(space, history, seed, prior):
        return {
            i: float(config.get("backbone", "") == LARGE) + 0.1 * ("backbone" in config)
            for i, (config, outcome) in enumerate(history)
            if outcome.is_done
        }

    monkeypatch.setattr(leader, "posterior_means", by_size)


@pytest.fixture
def timed(monkeypatch):
    """Let the large backbone be slow, however this machine is."""

    def seconds(fitted, example, device):
        backbone = getattr(fitted, "backbone", None)
        return SLOW_SECONDS[backbone.card.id] if backbone else 1e-4

    monkeypatch.setattr(measures, "latency_seconds", seconds)
    monkeypatch.setattr(fitting, "latency_seconds", seconds)
    monkeypatch.setattr(delivery, "median_seconds", lambda work: 0.002)


def study(texts, tmp_path, listener=None, trials=7, **asked):
    limits = {name: asked.pop(name) for name in list(asked) if name[:4] in PREFIXES}
    settings = Settings(
        backbones=(SMALL, LARGE),
        budget_seconds=None,
        trials=trials,
        limits=limits,
        **{"methods": ("majority", "probe"), "members": 1, **asked},
    )
    return fit(
        texts[0],
        labels=texts[1],
        out=tmp_path / "run",
        settings=settings,
        listener=listener,
    )


def test_without_limits_the_best_wins(texts, tmp_path, home, large_is_best):
    result = study(texts, tmp_path)
    assert result.config.text("backbone") == LARGE
    assert result.is_feasible
    assert result.front == []
    assert set(result.measures) == set(MEASURES)


@pytest.mark.parametrize(
    ("limit", "value"),
    [("max_parameters", 36_000.0), ("max_flops", 2e6), ("max_memory_mb", 0.145)],
)
def test_a_backbone_over_a_limit_by_its_card_is_never_tried(
    limit, value, texts, tmp_path, home, large_is_best, notes
):
    result = study(texts, tmp_path, notes, trials=4, **{limit: value})
    tried = {config.get("backbone", "") for config, _ in result.history}
    assert tried == {"", SMALL}
    told = [said for said in notes.sentences if said.startswith("Left out, over a")]
    assert len(told) == 1
    assert LARGE in told[0]
    assert SMALL not in told[0]
    assert result.config.text("backbone") == SMALL
    name = limit.removeprefix("max_")
    assert result.measures[name] <= value
    assert result.is_feasible
    assert result.summary["limits"][0]["is_kept"]


def test_what_only_a_trial_can_measure_keeps_its_limit_too(
    texts, tmp_path, home, large_is_best, timed, notes
):
    result = study(texts, tmp_path, notes, max_latency_ms=5.0)
    assert result.config.text("backbone") == SMALL
    assert result.is_feasible
    assert result.measures["latency_ms"] == 2.0
    on_large = [c for c, _ in result.history if c.get("backbone", "") == LARGE]
    assert len(on_large) == 1  # it was seen to be slow, and left alone
    assert any("latency 2 ms (at most 5 ms)" in said for said in notes.sentences)
    large = [row for row, (c, _) in enumerate(result.history) if c in on_large]
    assert result.summary["over"] == large
    whole = [outcome for _, outcome in result.history if outcome.is_done]
    assert result.summary["keeping"] == len(whole) - len(large)


def test_another_model_of_the_front_comes_by_a_limit_without_new_trials(
    texts, tmp_path, home, large_is_best, timed
):
    first = study(texts, tmp_path, trials=6, objectives=("latency_ms",))
    assert first.config.get("backbone", "") == LARGE
    again = study(texts, tmp_path, trials=6, max_latency_ms=5.0)
    assert len(again.history) == len(first.history)
    assert again.config.get("backbone", "") == SMALL
    assert again.is_feasible


def test_a_model_that_outgrows_a_limit_at_the_end_gives_way_to_the_next(
    texts, tmp_path, home, large_is_best, monkeypatch, notes
):
    counted = fitting.size_of

    def grown(fitted):
        sizes = counted(fitted)
        is_large = fitted.backbone.card.id == LARGE
        return {**sizes, "parameters": sizes["parameters"] + 50_000 * is_large}

    monkeypatch.setattr(fitting, "size_of", grown)
    asked = {"methods": ("probe",), "trials": 4}
    result = study(texts, tmp_path, notes, max_parameters=60_000.0, **asked)
    assert result.config.get("backbone", "") == SMALL
    assert result.is_feasible
    told = [said for said in notes.sentences if "the next best takes its" in said]
    assert told
    assert all(LARGE in said for said in told)


def test_an_adapter_counts_as_parameters(texts, tmp_path, home):
    narrow = {"steps": (10, 11), "batch_size": (8, 9), "rank": (16, 64)}
    asked = {"methods": ("probe", "lora"), "trials": 8, "narrow": narrow}
    result = study(texts, tmp_path, max_parameters=34_500.0, **asked)
    assert {config.text("method") for config, _ in result.history} == {"probe"}
    assert result.is_feasible
    free = study(texts, tmp_path / "free", max_parameters=90_000.0, **asked)
    sizes = [
        outcome.measures["parameters"]
        for config, outcome in free.history
        if config.text("method") == "lora"
    ]
    assert sizes
    assert min(sizes) > 34_500


def test_the_weakest_class_keeps_its_limit(tmp_path, home, monkeypatch):
    def majority_first(space, history, seed, prior):
        return {
            i: float(config.text("method") == "majority")
            for i, (config, outcome) in enumerate(history)
            if outcome.is_done
        }

    monkeypatch.setattr(leader, "posterior_means", majority_first)
    plain = [
        (f"{word} {'is ' * n}", word) for word in ("film", "city") for n in range(6)
    ]
    texts = [text for text, _ in plain], [label for _, label in plain]
    asked = {"methods": ("majority", "tfidf"), "trials": 2}
    result = study(texts, tmp_path, min_worst_recall=0.5, **asked)
    assert result.config.text("method") == "tfidf"
    assert result.measures["worst_recall"] >= 0.5
    kept = read_outputs(result.folder / result.summary["predictions"])
    labels = np.array(result.summary["labels"])
    worst = [metric_named("worst_class_recall").score(labels, row) for row in kept]
    assert result.measures["worst_recall"] == pytest.approx(np.mean(worst))


def test_no_backbone_within_limits_is_an_error_that_names_the_smallest(
    texts, tmp_path, home
):
    with pytest.raises(UserError, match=f"'{SMALL}' with parameters 33.4k .at most 1k"):
        study(texts, tmp_path, max_parameters=1000.0)
    result = study(
        texts, tmp_path, max_parameters=1000.0, methods=("majority",), trials=1
    )
    assert result.is_feasible


def test_where_no_trial_keeps_the_limits_the_closest_comes_and_is_marked(
    texts, tmp_path, home, large_is_best, timed, notes
):
    asked = {"methods": ("probe",), "trials": 4}
    result = study(texts, tmp_path, notes, max_latency_ms=1.0, **asked)
    assert not result.is_feasible
    assert result.config.text("backbone") == SMALL
    assert "breaks a limit" in str(result)
    warned = [said for said in notes.sentences if said.startswith("warning: No trial")]
    assert len(warned) == 1
    assert "latency 2 ms (at most 1 ms)" in warned[0]
    assert "Loosen the limit" in warned[0]  # it may be a least as well as a most
    assert result.predictor.predict(["good film"])
    assert "breaks a limit" in result.report().read_text("utf-8")


@pytest.mark.parametrize(("most", "members"), [(100_000.0, 2), (50_000.0, 1)])
def test_an_average_counts_as_a_whole(most, members, texts, tmp_path, home):
    asked = {"methods": ("probe",), "trials": 4, "members": 3}
    result = study(texts, tmp_path, max_parameters=most, **asked)
    assert len(result.summary["members"]) == members
    parts = [result.history[m["number"]][1] for m in result.summary["members"]]
    each = [outcome.measures["parameters"] for outcome in parts]
    assert result.measures["parameters"] == pytest.approx(sum(each), rel=0.01)
    assert result.measures["flops"] == sum(o.measures["flops"] for o in parts)
    assert result.measures["parameters"] <= most
    loaded = Predictor.load(result.folder)
    assert size_of(loaded.fitted)["parameters"] == (result.measures["parameters"])


def test_two_objectives_give_a_front(texts, tmp_path, home, timed):
    result = study(texts, tmp_path, objectives=("latency_ms",))
    assert result.summary["objectives"] == ["score", "latency_ms"]
    assert result.front
    scores = [row["score"] for row in result.front]
    times = [row["latency_ms"] for row in result.front]
    assert scores == sorted(scores, reverse=True)
    assert times == sorted(times, reverse=True)
    for row in result.front:
        assert Config.of(row["config"]) == result.history[row["number"]][0]


def test_no_score_is_shown_that_its_metric_cannot_reach(
    texts, tmp_path, home, timed, monkeypatch
):
    def high(space, history, seed, prior):
        return {i: 1 + i / 100 for i, (_, outcome) in enumerate(history)}

    monkeypatch.setattr(leader, "posterior_means", high)
    monkeypatch.setattr(finish, "FAR", np.inf)
    result = study(texts, tmp_path, objectives=("latency_ms",))
    assert set(result.summary["smoothed"]) == {1.0}
    assert {row["score"] for row in result.front} == {1.0}
    # Scores that are shown as equal leave the fastest: nothing drawn is dominated.
    fastest = min(o.measures["latency_ms"] for _, o in result.history if o.is_done)
    assert {row["latency_ms"] for row in result.front} == {fastest}


def test_an_outlier_is_shown_by_its_raw_score():
    task = Task(modality="text", names=("a", "b"))
    history = [
        (
            Config.of({"method": "probe", "copy": i}),
            Outcome(status="done", mean=mean, standard_error=0.04),
        )
        for i, mean in enumerate((0.17, 0.6))
    ]
    shown = [
        finish._shown(history, i, score, task.measured)
        for i, score in enumerate((0.52, 0.58))
    ]
    assert shown == [0.17, 0.58]


def test_a_limit_in_words():
    limit = Limit("worst_recall", least=0.5)
    words = beside_limit(limit, {"worst_recall": 0.25})
    assert words == "worst recall 0.25 (at least 0.5)"
    assert "not measured" in beside_limit(limit, {})
