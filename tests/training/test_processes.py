"""Several processes train what one would, for the same global batches."""

import os
import signal

import numpy as np
import pytest
import torch

from fewshot_automl import group
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.fitted import trained_parameters
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.backbones.load import load
from fewshot_automl.errors import TrialError
from fewshot_automl.executors import Ranks
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import Placement
from fewshot_automl.trial.space import space_for

CASES = (
    ("partial_freeze", "tiny-bert"),
    ("partial_freeze", "tiny-vit"),  # in augmented views
    ("lora", "tiny-bert"),
    ("contrastive", "tiny-bert"),
    ("contrastive_lora", "tiny-vit"),
)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
"""Sums in another order; of small gradients AdamW makes steps as of large ones."""
ALONE = {
    **{"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"},
    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"},
}
LABELS = np.repeat(np.arange(3), 6)
# A slice is of 3 or of 2 examples; the last batch of an epoch is smaller.
HOW = {"steps": 10, "batch_size": 10, "probe_share": 1.0, "augmentation": "light"}


def examples(modality):
    rng = np.random.default_rng(0)
    if modality == "text":
        words = ("good bad film", "river city where", "name who how many")
        return [f"{words[i]} {'is ' * n}" for n, i in enumerate(LABELS)]
    pixels = rng.integers(0, 60, (len(LABELS), 40, 36, 3), dtype=np.uint8)
    for image, label in zip(pixels, LABELS, strict=True):
        image[..., label] += 180
    return list(pixels)


def named(fitted):
    return fitted.backbone.module.named_parameters()


def trained(cases, cards, folders, place):
    """Return all trained weights of each case, and what its head says."""
    found = {}
    torch.set_num_threads(1)
    for method, name in cases:
        backbone = load(cards[name], folders[name], device=place.device)
        task = Task(modality=backbone.card.modality, names=("a", "b", "c"))
        space = space_for(Profile.of(task, LABELS), (backbone.card,))
        names = {"method": method, "backbone": name}
        ours = {n: v for n, v in HOW.items() if n in space.default(**names)}
        config = space.default(**names, **ours)
        encodings = Encodings(
            inputs=tuple(examples(task.modality)),
            encoder=Encoder(
                backbone=backbone, store=FeatureStore(None), device=place.device
            ),
        )
        job = Job(task=task, config=config, seed=3, placement=place)
        fitted = METHODS[method].fit(encodings, LABELS, job)
        moved = set(trained_parameters(fitted.backbone, fitted.start))
        found[method, name] = {
            **{n: p.numpy(force=True) for n, p in named(fitted) if p in moved},
            "outputs": fitted.outputs(encodings),
        }
    return found


@pytest.fixture(scope="module")
def home(tiny_cards, random_weights):
    cards = {name: tiny_cards[name] for _, name in CASES}
    return cards, {name: random_weights(card) for name, card in cards.items()}


@pytest.fixture(scope="module")
def alone(home):
    return trained(CASES, *home, Placement(device="cpu"))


def check(alone, together, **within):
    for case, found in together.items():
        assert found.keys() == alone[case].keys()
        for name, ours in found.items():
            # Attention does not depend on the bias of its keys. Their gradients are
            # rounding errors, of which AdamW makes steps of full size.
            if not name.endswith(("key.bias", "qkv.bias")):
                wanted, within = alone[case][name], within or CLOSE
                np.testing.assert_allclose(
                    ours, wanted, **within, err_msg=f"{case} {name}"
                )


def meet(number, fate):
    """Meet the other process at a sum, where all goes well."""
    if group.number() == number:
        fate()
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    return float(total)


def fail():
    raise MemoryError("no room")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_processes_that_part_fail_one_call_and_are_started_anew():
    ranks = Ranks(2)
    try:
        assert ranks.run(meet, 2, None) == 2.0
        for number, fate, why in (
            (1, die, "died with SIGKILL"),
            (0, die, "died with SIGKILL"),
            (1, fail, "MemoryError: no room"),  # the first waits in vain
            (0, fail, "no room"),
        ):
            with pytest.raises(TrialError, match=why):
                ranks.run(meet, number, fate)
            assert ranks.run(meet, 2, None) == 2.0
    finally:
        ranks.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_several_processes_end_with_the_weights_of_one(processes, home, alone):
    ranks = Ranks(processes)
    try:
        for is_sharded in (False, True):
            place = Placement(device="cpu", processes=processes, is_sharded=is_sharded)
            check(alone, ranks.run(trained, CASES, *home, place))
    finally:
        ranks.shutdown()


@pytest.mark.gpu
def test_sharding_over_gpus_trains_what_one_process_does(home, monkeypatch):
    gpus = torch.cuda.device_count()
    alone = trained(CASES, *home, Placement(device="cuda:0"))
    place = Placement(device="cuda:0", processes=gpus, is_sharded=True)
    if gpus > 1:
        ranks = Ranks(gpus, gpus=range(gpus))
        found = ranks.run(trained, CASES, *home, place)
        ranks.shutdown()
    else:  # one process, which does all but wait for another
        for name, value in ALONE.items():
            monkeypatch.setenv(name, value)
        group.join()
        found = trained(CASES, *home, place)
    check(alone, found, rtol=1e-3, atol=1e-3)
