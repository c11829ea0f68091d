import numpy as np
import pytest

from fewshot_automl.evaluation.transfer import h_score, knn_score, log_me
from fewshot_automl.trial import transfer as module
from fewshot_automl.trial.evaluate import Evaluate

FEATURES = ("transfer_logme", "transfer_h_score", "transfer_knn")


def said(outcome):
    return {k: v for k, v in outcome.measures.items() if k.startswith("transfer_")}


def test_quick_trials_carry_the_scores_of_their_backbone(workbench, space):
    evaluate = Evaluate(workbench=workbench)
    config = space.default(method="probe", head="logistic")
    probe = evaluate(config, None)
    features = workbench.encodings(config).pooled()
    labels = workbench.problem.labels
    assert said(probe) == pytest.approx(
        {
            "transfer_logme": log_me(features, labels),
            "transfer_h_score": h_score(features, labels),
            "transfer_knn": knn_score(features, labels),
            "transfer_prior": workbench.cards[0].descriptors["prior"],
            "transfer_probe": probe.mean,
        }
    )
    misses = workbench.store.stats().misses
    for other in (
        space.default(method="probe", head="lda"),
        space.default(method="prototype"),
    ):
        assert said(evaluate(other, None)) == {
            k: v for k, v in said(probe).items() if k != "transfer_probe"
        }
    assert workbench.store.stats().misses == misses


@pytest.mark.parametrize("name", ["tfidf", "contrastive"])
def test_other_trials_carry_none(workbench, space, name):
    config = space.default(method=name, steps=10, batch_size=8)
    assert not said(Evaluate(workbench=workbench)(config, None))


def test_features_are_scored_once_a_backbone_and_only_so_many(
    workbench, space, monkeypatch
):
    seen = []

    def counted(features, labels):
        seen.append(len(labels))
        return 0.0

    monkeypatch.setattr(module, "MOST_EXAMPLES", 9)
    monkeypatch.setattr(module, "log_me", counted)
    for head in ("logistic", "lda"):
        config = space.default(method="probe", head=head)
        module.transfer_scores(workbench, config, 0.5)
    assert seen == [9]
    assert np.isfinite(list(workbench.transfer["tiny-bert"].values())).all()
