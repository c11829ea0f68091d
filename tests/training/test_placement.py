import subprocess
import sys

import pytest
import torch

from fewshot_automl.errors import UserError
from fewshot_automl.training import placement
from fewshot_automl.training.placement import (
    Placement,
    choose_placement,
    cpu_prefers_bfloat16,
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (
        *("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"),
        "FEWSHOT_DEVICE",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def plain_cpu(monkeypatch):
    monkeypatch.setattr(placement, "cpu_prefers_bfloat16", lambda: False)


@pytest.fixture
def gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))


def test_the_variable_overrides_the_choice(monkeypatch, gpus):
    assert choose_placement().device == "cuda:0"
    monkeypatch.setenv("FEWSHOT_DEVICE", "cpu")
    assert choose_placement() == Placement(device="cpu")
    assert choose_placement("cuda:1").device == "cuda:1"
    monkeypatch.setenv("FEWSHOT_DEVICE", "tpu")
    with pytest.raises(UserError, match=r"one of cuda:0, .*cpu, got 'tpu'"):
        choose_placement()


@pytest.mark.parametrize(
    ("version", "precision"),
    [((9, 0), "bf16"), ((8, 0), "bf16"), ((7, 5), "fp16"), ((6, 1), "no")],
)
def test_gpus_compute_in_the_best_precision_they_have(
    monkeypatch, gpus, version, precision
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: version)
    assert choose_placement().precision == precision


def test_a_cpu_computes_in_bfloat16_where_products_are_much_faster(monkeypatch):
    assert choose_placement("cpu").precision == "no"
    monkeypatch.setattr(placement, "cpu_prefers_bfloat16", lambda: True)
    assert choose_placement("cpu").precision == "bf16"


@pytest.mark.parametrize(("quick", "expected"), [(1.0, True), (2.0, False)])
def test_products_are_timed_in_both_precisions(monkeypatch, quick, expected):
    clock = iter([0.0, 4.0, 0.0, quick])
    monkeypatch.setattr(placement.time, "thread_time", lambda: next(clock))
    assert cpu_prefers_bfloat16.__wrapped__() is expected


def test_a_launched_process_takes_its_own_gpu(monkeypatch, gpus):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_placement().processes == 1  # nobody says where the other is
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    chosen = choose_placement()
    assert (chosen.device, chosen.processes) == ("cuda:1", 2)
    assert str(chosen) == (
        "Training on GPU 1, shared by 2 processes, in bfloat16 products."
    )


def test_importing_the_room_imports_no_accelerate():
    code = "import sys, fewshot_automl.training; print('accelerate' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
