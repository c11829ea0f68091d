"""Each slot of a cohort equals the same training alone, for every method."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import Placement
from fewshot_automl.trial.design import space_for

TINY_IDS = sorted(
    path.stem for path in (Path(__file__).parent.parent / "zoo").glob("*/*.toml")
)
DEAR = [name for name, row in METHODS.items() if row.is_dear]
TEXTS = (
    "good film|a good good film how|film good the is bad|bad film",
    "river city where|where is the city|city river river is a where|river",
    "name who how many|who|how many name is the who who a|name name",
)
VARIED = (
    {"steps": 14, "schedule": "linear", "batch_size": 8, "weight_decay": 0.2},
    {"steps": 10, "schedule": "constant", "batch_size": 11, "warmup_fraction": 0.3},
    {"steps": 12, "schedule": "cosine", "batch_size": 8},
    {"steps": 14, "schedule": "one_cycle", "batch_size": 8},
)
PER_METHOD = {
    "lora": ({"rank": 3, "lora_dropout": 0.3}, {"rank": 8}, {"alpha_ratio": 4.0}),
    "contrastive_lora": ({"lora_dropout": 0.2}, {"rank": 2, "temperature": 0.3}),
    "contrastive": ({"temperature": 0.05}, {"head": "lda"}),
    "partial_freeze": ({"label_smoothing": 0.2}, {"probe_share": 1.0}),
}


def examples(modality):
    if modality == "text":
        inputs = [text for line in TEXTS for text in line.split("|")]
    else:
        chance = np.random.default_rng(0)
        inputs = [chance.integers(0, 60, (40, 36, 3), np.uint8) for _ in range(12)]
        for place, pixels in enumerate(inputs):
            pixels[..., place // 4] += 180
    return tuple(inputs), np.repeat(np.arange(3), 4)


@pytest.fixture
def setting(tiny_backbone, tiny_cards):
    """Return ``(method, card, values of each job) -> encodings, labels, jobs``."""

    def make(name, card, each, deadline=None):
        modality = tiny_cards[card].modality
        inputs, labels = examples(modality)
        encoder = Encoder(backbone=tiny_backbone(card), store=FeatureStore(None))
        task = Task(modality=modality, names=("a", "b", "c"))
        profile = Profile(task=task, class_counts=(4, 4, 4))
        space = space_for(profile, [tiny_cards[card]], [name])
        jobs = [
            Job(
                task=task,
                config=space.default(**{k: v for k, v in values.items() if k in space}),
                seed=seed,
                placement=Placement(device="cpu"),
                deadline=deadline,
            )
            for seed, values in enumerate(each)
        ]
        return Encodings(inputs=inputs, encoder=encoder), labels, jobs

    return make


def chosen_of(jobs):
    """Give every job another draw of examples, not all of one size."""
    chance = np.random.default_rng(1)
    return [np.sort(chance.permutation(12)[: 9 + at % 2]) for at, _ in enumerate(jobs)]


def assert_same(together, alone, encodings):
    """Compare on the scale of what training changed: Adam magnifies rounding."""
    frozen = encodings.pooled()
    for stacked, single in zip(together, alone, strict=True):
        expected = single.features(encodings)
        changed = np.abs(expected - frozen).max()
        assert changed > 1e-3, "the training must have done something"
        found = stacked.features(encodings)
        assert np.abs(found - expected).max() < 0.02 * changed + 1e-5
        np.testing.assert_allclose(
            stacked.predict_proba(encodings),
            single.predict_proba(encodings),
            atol=0.05,
        )


def both(name, encodings, labels, jobs):
    method = METHODS[name]
    chosen = chosen_of(jobs)
    alone = [
        method.fit(encodings.take(places), labels[places], job)
        for places, job in zip(chosen, jobs, strict=True)
    ]
    return method.fit_together(encodings, labels, chosen, jobs), alone


@pytest.mark.parametrize("card", ["tiny-bert", "tiny-vit"])
@pytest.mark.parametrize("name", DEAR)
def test_each_slot_is_the_training_alone(name, card, setting):
    own = PER_METHOD.get(name, ())
    values = [
        {"frozen_fraction": 0.5, **base, **extra}
        for base, extra in zip(VARIED, (*own, {}, {}, {}, {})[:4], strict=True)
    ]
    encodings, labels, jobs = setting(name, card, values)
    backbone = encodings.backbone
    if not METHODS[name].is_alike(backbone, jobs[0].config, jobs[1].config):
        assert name == "full"
        assert not backbone.stacks(-1)
        pytest.skip(f"{card} cannot be stacked whole, and says so")
    assert_same(*both(name, encodings, labels, jobs), encodings)


@pytest.mark.parametrize("card", TINY_IDS)
@pytest.mark.parametrize(("name", "frozen"), [("lora", 0.0), ("partial_freeze", 0.6)])
def test_every_tiny_backbone_keeps_it(name, frozen, card, setting):
    values = [{"frozen_fraction": frozen, **base} for base in VARIED[:2]]
    encodings, labels, jobs = setting(name, card, values)
    first, second = (job.config for job in jobs)
    if METHODS[name].is_alike(encodings.backbone, first, second):
        assert_same(*both(name, encodings, labels, jobs), encodings)
    else:
        assert frozen == 0.0 or card == "tiny-deberta", "others stack behind a block"


def test_augmented_views_are_drawn_as_alone(setting):
    values = [
        {"frozen_fraction": 0.5, "augmentation": kind, **VARIED[at]}
        for at, kind in enumerate(("light", "none", "light"))
    ]
    encodings, labels, jobs = setting("contrastive", "tiny-vit", values)
    assert_same(*both("contrastive", encodings, labels, jobs), encodings)


def test_a_member_that_diverges_leaves_the_others_alone(setting):
    values = [{"frozen_fraction": 0.5, **base} for base in VARIED[:3]]
    encodings, labels, jobs = setting("partial_freeze", "tiny-bert", values)
    wild = Config.of({**jobs[1].config.to_json(), "learning_rate": 1e30})
    jobs[1] = Job(
        task=jobs[1].task,
        config=wild,
        seed=1,
        placement=jobs[1].placement,
    )
    chosen = chosen_of(jobs)
    first, broken, third = METHODS["partial_freeze"].fit_together(
        encodings, labels, chosen, jobs
    )
    assert isinstance(broken, TrialError)
    assert "lower learning rate" in str(broken)
    alone = [
        METHODS["partial_freeze"].fit(
            encodings.take(chosen[at]), labels[chosen[at]], jobs[at]
        )
        for at in (0, 2)
    ]
    assert_same([first, third], alone, encodings)


def test_members_may_be_of_very_unequal_length(setting):
    values = [
        {"frozen_fraction": 0.5, "steps": steps, "schedule": "constant"}
        for steps in (10, 25, 12)
    ]
    encodings, labels, jobs = setting("contrastive", "tiny-bert", values)
    assert_same(*both("contrastive", encodings, labels, jobs), encodings)


def test_the_base_is_left_alone(setting):
    values = [{"frozen_fraction": 0.5, "lora_dropout": 0.2, **VARIED[0]}] * 2
    encodings, labels, jobs = setting("lora", "tiny-bert", values)
    before = {k: v.clone() for k, v in encodings.backbone.module.state_dict().items()}
    METHODS["lora"].fit_together(encodings, labels, chosen_of(jobs), jobs)
    for name, value in encodings.backbone.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_deadline_ends_it(setting):
    values = [{"frozen_fraction": 0.5, **VARIED[0]}] * 2
    encodings, labels, jobs = setting("lora", "tiny-bert", values, deadline=0.0)
    encodings.activations(1)
    with pytest.raises(OutOfTime, match="side by side"):
        METHODS["lora"].fit_together(encodings, labels, chosen_of(jobs), jobs)


def test_a_cohort_too_large_for_memory_is_halved(setting, monkeypatch):
    values = [{"frozen_fraction": 0.5, **base} for base in VARIED]
    encodings, labels, jobs = setting("lora", "tiny-bert", values)
    sizes = []
    from fewshot_automl.adaptation import tuned

    real = tuned.train_together

    def small(members, *args, **kwargs):
        sizes.append(len(members))
        if len(members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(members, *args, **kwargs)

    monkeypatch.setattr(tuned, "train_together", small)
    assert_same(*both("lora", encodings, labels, jobs), encodings)
    assert sizes == [4, 2, 2]
