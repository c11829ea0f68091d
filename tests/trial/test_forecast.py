"""What is forecast on tensors without memory is what real ones take."""

import contextlib
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch

from fewshot_automl.adaptation.trainee import Trainee
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.hardware import PROCESS_BYTES, Forecast
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.training import Placement, TrainingSettings, train
from fewshot_automl.training.memory import StorageCount, later_step
from fewshot_automl.trial import TrialContext, evaluate, forecast, refit
from fewshot_automl.trial.forecast import PEAK, WAYS, thrift

module = import_module("fewshot_automl.trial.forecast")
QUICK = {
    "frozen_fraction": 0.5,
    "steps": 3,
    "batch_size": 8,
    "learning_rate": 1e-3,
    "lora_learning_rate": 1e-3,
    "full_learning_rate": 1e-4,
    "probe_share": 0.1,
    "label_smoothing": 0.0,
    "schedule": "constant",
    "warmup_fraction": 0.0,
    "weight_decay": 0.01,
    "temperature": 0.1,
    "rank": 4,
    "alpha_ratio": 2.0,
    "lora_dropout": 0.1,
}


def config_of(name, method, **values):
    return Config.of({"method": method, "backbone": name, **QUICK, **values})


@pytest.fixture
def on(context, tiny_cards, random_weights):
    """Return a context on a tiny backbone, with as many pictures as texts."""

    def make(name):
        card = tiny_cards[name]
        random_weights(card)
        problem, task = context.problem, context.problem.task
        if card.modality == "image":
            rng = np.random.default_rng(0)
            inputs = tuple(rng.integers(0, 255, (15, 32, 32, 3), dtype=np.uint8))
            problem = replace(
                problem,
                task=Task(modality="image", names=task.names),
                inputs=inputs,
                keys=(),
            )
        return TrialContext(
            problem=problem,
            cards=(card,),
            store=FeatureStore(None),
            placement=Placement(device="cpu"),
        )

    return make


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("tiny-bert", "partial_freeze"),
        ("tiny-mpnet", "lora"),
        ("tiny-modernbert", "contrastive"),
        ("tiny-mobilenetv2", "full"),
        ("tiny-swinv2", "partial_freeze"),
        ("tiny-vit", "probe"),
    ],
)
def test_fake_tensors_count_as_real_ones_do(on, monkeypatch, name, method):
    context, config = on(name), config_of(name, method)
    fake = forecast(context, config)
    context.forecasts.clear()

    def real(**_):
        return contextlib.nullcontext()

    monkeypatch.setattr(module, "FakeTensorMode", real)
    assert forecast(context, config) == fake
    assert fake.memory_bytes > PROCESS_BYTES + fake.weights_bytes
    assert (fake.trained_bytes > 0) == (method != "probe")


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_step_that_is_counted_is_one_of_a_training(tiny_backbone, precision):
    base, place = (
        tiny_backbone("tiny-vit"),
        Placement(device="cpu", precision=precision),
    )
    pixels, targets = torch.rand(8, 3, 32, 32), torch.arange(8) % 2
    settings = TrainingSettings(
        steps=3, batch_size=8, learning_rate=1e-3, schedule="constant"
    )

    class Rows:
        def __len__(self):
            return 8

        def batch(self, indices, step, own=slice(None)):
            return {"pixels": pixels[indices[own]]}

    def every(size):
        while True:
            yield np.arange(8)

    def loss(outputs, wanted):
        return (outputs.mean(dim=1) - wanted).square().mean()

    def counted(run):
        fork = base.fork(-1)
        fork.module.requires_grad_()
        trainee = Trainee(fork, -1, None)
        with StorageCount() as count:
            count.hold([*trainee.parameters(), *trainee.buffers()])
            run(trainee)
        return count.peak

    ours = counted(
        lambda t: later_step(t, {"pixels": pixels}, targets, loss, settings, place)
    )
    theirs = counted(lambda t: train(t, Rows(), targets, loss, every, settings, place))
    assert ours == pytest.approx(theirs, rel=0.02)


def test_memory_grows_with_what_is_trained_at_once(on):
    context, config = on("tiny-mobilenetv2"), config_of("tiny-mobilenetv2", "full")
    whole = forecast(context, config)
    for way in ({"parts": 4}, {"checkpoints": True}):
        assert forecast(context, config, **way).memory_bytes < whole.memory_bytes


def test_a_training_that_would_not_fit_begins_smaller(on, monkeypatch):
    context, config = on("tiny-bert"), config_of("tiny-bert", "full")
    needs = dict(zip(WAYS, (400, 300, 200, 100), strict=True))

    def known(context, config, parts, checkpoints):
        memory = needs[parts, checkpoints]
        return Forecast(
            memory_bytes=memory, weights_bytes=0, trained_bytes=0, seconds=0.0
        )

    monkeypatch.setattr(module, "forecast", known)
    for way, memory in needs.items():
        monkeypatch.setattr(module, "room_bytes", lambda _, memory=memory: memory)
        assert thrift(context, config) == way
    monkeypatch.setattr(module, "room_bytes", lambda _: 0)
    assert evaluate(context, config).is_done
    for plenty in (None, 10**12):
        monkeypatch.setattr(module, "room_bytes", lambda _, room=plenty: room)
        assert thrift(context, config) == (1, False)


@pytest.mark.parametrize(
    ("name", "method"), [("tiny-mpnet", "lora"), ("tiny-efficientnet", "full")]
)
def test_blocks_that_run_again_change_no_result(on, monkeypatch, name, method):
    context, config = on(name), config_of(name, method)
    evaluated = import_module("fewshot_automl.trial.evaluate")
    encodings = context.encodings(config)
    outputs = []
    for way in ((1, False), (1, True)):
        monkeypatch.setattr(evaluated, "thrift", lambda *_, way=way: way)
        outputs.append(refit(context, config).outputs(encodings))
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-5)


def test_measured_peaks_correct_forecasts(on):
    context, config = on("tiny-bert"), config_of("tiny-bert", "partial_freeze")
    plain = forecast(context, config).memory_bytes
    outcome = evaluate(context, config)
    assert outcome.measures[PEAK] > 100  # of this whole process
    learnt = forecast(context, config, seconds=2.0)
    assert learnt.seconds == 2.0
    assert learnt.memory_bytes == pytest.approx(1e6 * outcome.measures[PEAK], rel=1e-6)
    context.missed.extend([1.2, 1.4, 1.3])
    assert forecast(context, config).memory_bytes == round(1.3 * plain)
