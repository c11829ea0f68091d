"""A study returns no model that breaks a limit where some trial keeps them all."""

from pathlib import Path

import numpy as np
import pytest

from fewshot_automl import Settings, fit
from fewshot_automl.automl import finish
from fewshot_automl.automl.available import available_backbones, broken_in_words
from fewshot_automl.automl.scoring import Tried
from fewshot_automl.backbones import weights
from fewshot_automl.errors import CardError, UserError
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


@pytest.fixture(scope="module", autouse=True)
def two_backbones(at_home, tmp_path_factory, tiny_cards, random_weights):
    """Make a zoo of a small and a large tiny backbone, the large one on top."""
    home = tmp_path_factory.mktemp("home")
    for name in (SMALL, LARGE):
        card = (TINY / f"{name}.toml").read_text("utf-8")
        if name == LARGE:
            card = card.replace("flops = 1000000", "flops = 9000000")
        (home / f"{name}.toml").write_text(card, "utf-8")
        (home / name).symlink_to(random_weights(tiny_cards[name]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_ZOO_PATH", str(home))
        yield


@pytest.fixture
def large_is_best(monkeypatch):
    """Score trials by their backbone alone: the large one is the best."""

    def by_size(space, history, seed, prior):
        return {
            i: float(config.get("backbone", "") == LARGE) + 0.1 * ("backbone" in config)
            for i, (config, outcome) in enumerate(history)
            if outcome.is_done
        }

    def evidence(tried, number):
        is_large = tried.config(number).get("backbone", "") == LARGE
        return np.full(len(tried.problem.targets), -1.0 if is_large else -2.0)

    monkeypatch.setattr(leader, "posterior_means", by_size)
    monkeypatch.setattr(Tried, "evidence", evidence)


@pytest.fixture
def timed(monkeypatch):
    """Let the large backbone be slow, however this machine is."""

    def seconds(fitted, example, device):
        backbone = getattr(fitted, "backbone", None)
        return SLOW_SECONDS[backbone.card.id] if backbone else 1e-4

    monkeypatch.setattr(measures, "latency_seconds", seconds)


def study(texts, tmp_path, listener=None, trials=4, **asked):
    limits = {name: asked.pop(name) for name in list(asked) if name[:4] in PREFIXES}
    settings = Settings(
        backbones=(SMALL, LARGE),
        budget_seconds=None,
        trials=trials,
        limits=limits,
        oracle="random",
        **{"methods": ("majority", "probe"), "members": 1, **asked},
    )
    return fit(
        texts[0],
        labels=texts[1],
        out=tmp_path / "run",
        settings=settings,
        listener=listener,
    )


@pytest.mark.parametrize(
    ("measure", "value"),
    [("parameters", 36_000.0), ("flops", 2e6), ("memory_mb", 0.145)],
)
def test_a_backbone_over_a_limit_by_its_card_is_not_searched(measure, value, notes):
    limits = (Limit(measure, most=value), Limit("worst_recall", least=0.5))
    at_hand, missing = available_backbones("text", None, notes.say, None, limits)
    assert ([card.id for card in at_hand], missing) == ([SMALL], ())
    (said,) = notes.heard("Left out, over a limit")
    assert LARGE in said
    assert SMALL not in said


def test_no_backbone_within_limits_is_an_error_that_names_the_smallest(notes):
    limits = (Limit("parameters", most=1000.0),)
    with pytest.raises(UserError, match=f"'{SMALL}' with parameters 33.4k .at most 1k"):
        available_backbones("text", None, notes.say, None, limits)


def test_there_are_no_backbones_where_no_method_needs_one(notes):
    none = available_backbones("text", None, notes.say, None, is_needed=False)
    assert (none, notes.heard("")) == (((), ()), [])


def test_without_any_weights_methods_that_need_none_go_on(notes, monkeypatch):
    def fail(*arguments, **settings):
        raise CardError("no network")

    monkeypatch.setattr(weights, "is_at_hand", lambda card: False)
    monkeypatch.setattr(weights, "get", fail)
    others = ("majority", "tfidf")
    at_hand, missing = available_backbones("text", None, notes.say, None, others=others)
    assert at_hand == ()
    assert "tiny-bert" in [card.id for card in missing]
    (said,) = notes.heard("warning: ")
    assert "Only majority and tfidf will be tried" in said
    assert "fewshot zoo get minilm-l6" in said
    for asked in ({"others": ()}, {"names": ["tiny-bert"], "others": others}):
        with pytest.raises(CardError, match="no network"):
            available_backbones(
                **{"modality": "text", "names": None, "say": notes.say, **asked},
                deadline=None,
            )


def test_what_only_a_trial_can_measure_keeps_its_limit_too(
    texts, tmp_path, large_is_best, timed, notes
):
    result = study(texts, tmp_path, notes, trials=18, max_latency_ms=5.0)
    assert result.config.text("backbone") == SMALL
    assert result.is_feasible
    assert result.measures["latency_ms"] == 2.0
    on_large = [c for c, _ in result.history if c.get("backbone", "") == LARGE]
    assert len(on_large) == 1  # it was seen to be slow, and left alone
    large = [row for row, (c, _) in enumerate(result.history) if c in on_large]
    assert result.summary["over"] == large
    whole = [outcome for _, outcome in result.history if outcome.is_done]
    assert result.summary["keeping"] == len(whole) - len(large)


def test_another_model_of_the_front_comes_by_a_limit_without_new_trials(
    texts, tmp_path, large_is_best, timed
):
    asked = {"methods": ("probe",), "trials": 18}  # enough for both backbones
    first = study(texts, tmp_path, objectives=("latency_ms",), **asked)
    assert first.config.text("backbone") == LARGE
    assert first.is_feasible
    assert set(first.measures) == set(MEASURES)
    assert first.summary["objectives"] == ["score", "latency_ms"]
    assert first.front
    for name in ("score", "latency_ms"):
        values = [row[name] for row in first.front]
        assert values == sorted(values, reverse=True)
    for row in first.front:
        assert Config.of(row["config"]) == first.history[row["number"]][0]
    again = study(texts, tmp_path, max_latency_ms=5.0, **asked)
    assert len(again.history) == len(first.history)
    assert again.config.text("backbone") == SMALL
    assert again.is_feasible


def test_an_adapter_counts_as_parameters(texts, tmp_path):
    narrow = {"steps": (10, 11), "batch_size": (8, 9), "rank": (16, 64)}
    asked = {"methods": ("probe", "lora"), "narrow": narrow}
    result = study(texts, tmp_path, max_parameters=34_500.0, **asked)
    assert {config.text("method") for config, _ in result.history} == {"probe"}
    assert result.front
    assert result.is_feasible
    free = study(texts, tmp_path, max_parameters=90_000.0, trials=6, **asked)
    tried = [c.text("method") for c, _ in free.history[len(result.history) :]]
    assert "lora" in tried


@pytest.mark.filterwarnings("ignore:The class name")
def test_the_weakest_class_keeps_its_limit(tmp_path, monkeypatch):
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


def test_where_no_trial_keeps_the_limits_the_closest_comes_and_is_marked(
    texts, tmp_path, large_is_best, timed, notes
):
    asked = {"methods": ("probe",), "trials": 4}
    result = study(texts, tmp_path, notes, max_latency_ms=1.0, **asked)
    assert not result.is_feasible
    assert result.config.text("backbone") == SMALL
    assert "breaks a limit" in str(result)
    (warned,) = notes.heard("warning: No trial")
    assert "latency 2 ms (at most 1 ms)" in warned
    assert "Loosen the limit" in warned  # it may be a least as well as a most
    assert result.predictor.predict(["good film"])
    assert "breaks a limit" in result.report().read_text("utf-8")


def test_an_average_counts_as_a_whole(texts, tmp_path):
    asked = {"methods": ("probe",), "members": 3}
    for most, members in ((100_000.0, 2), (50_000.0, 1)):
        result = study(texts, tmp_path, trials=18, max_parameters=most, **asked)
        assert len(result.summary["members"]) == members
        parts = [result.history[m["number"]][1] for m in result.summary["members"]]
        each = [outcome.measures["parameters"] for outcome in parts]
        assert result.measures["parameters"] == pytest.approx(sum(each), rel=0.01)
        assert result.measures["flops"] == sum(o.measures["flops"] for o in parts)
        assert result.measures["parameters"] <= most
        loaded = Predictor.load(result.folder)
        assert size_of(loaded.fitted)["parameters"] == result.measures["parameters"]


@pytest.mark.parametrize(
    ("mean", "score", "shown"),
    [(0.17, 0.52, 0.17), (0.6, 0.58, 0.58), (0.98, 1.02, 1.0)],
    ids=["an outlier is shown raw", "a mean as it is", "none that cannot be reached"],
)
def test_scores_are_shown_as_they_can_be_believed(mean, score, shown):
    task = Task(modality="text", names=("a", "b"))
    outcome = Outcome(status="done", mean=mean, standard_error=0.04)
    history = [(Config.of({"method": "probe"}), outcome)]
    assert finish._shown(history, 0, score, task.measured) == shown


def test_a_broken_limit_in_words():
    limit = Limit("worst_recall", least=0.5)
    words = broken_in_words([limit], {"worst_recall": 0.25})
    assert words == "worst recall 0.25 (at least 0.5)"
    assert broken_in_words([limit], {"worst_recall": 0.5}) == ""
