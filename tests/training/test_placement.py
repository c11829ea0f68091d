import subprocess
import sys

import numpy as np
import pytest
import torch

from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.training import placement as room
from fewshot_automl.training.placement import (
    Placement,
    Team,
    choose_placement,
    is_out_of_memory,
    join,
    launch,
    own_randomness,
    seed_device,
)


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in (
        *("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"),
        *("ACCELERATE_USE_CPU", "FEWSHOT_DEVICE"),
    ):
        monkeypatch.delenv(name, raising=False)


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


def test_new_gpus_compute_in_bfloat16_and_old_ones_do_not(monkeypatch, gpus):
    assert choose_placement().mixed_precision == "bf16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert choose_placement().mixed_precision == "no"


def test_a_launched_process_takes_its_own_gpu(monkeypatch, gpus):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert choose_placement().processes == 1  # nobody says where the other is
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    chosen = choose_placement()
    assert (chosen.device, chosen.processes) == ("cuda:1", 2)
    assert str(chosen) == (
        "Training on GPU 1, one of 2 processes in bfloat16 products."
    )
    monkeypatch.setenv("ACCELERATE_USE_CPU", "yes")
    assert choose_placement().device == "cpu"


def test_processes_must_have_been_started(monkeypatch):
    with pytest.raises(UserError, match="processes must be at least 1"):
        Placement(device="cpu", processes=0)
    monkeypatch.setattr(room, "_connect", lambda _: (0, 1))
    with pytest.raises(TrialError, match=r"must be 1, .* got 3"):
        join(Placement(device="cpu", processes=3))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_shares_cover_the_batch_in_order(count):
    batch = np.arange(10, 10 + count)
    cpu = torch.device("cpu")
    parts = [
        Team(device=cpu, rank=rank, size=3, precision="no").share(batch)
        for rank in range(3)
    ]
    assert len({part.size for part in parts}) == 1
    np.testing.assert_array_equal(np.concatenate(parts)[:count], batch)


def test_random_state_is_left_as_found():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    cpu = torch.device("cpu")
    draws = []
    for words in ((1, 2), (1, 2), (2, 1)):
        with own_randomness(cpu):
            seed_device(cpu, *words)
            draws.append(torch.rand(1).item())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert draws[0] == draws[1] != draws[2]


def test_knows_what_running_out_of_memory_looks_like():
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes"))


def test_one_process_is_launched_right_here():
    said = []
    launch(said.append, ("here",), processes=1)
    assert said == ["here"]


def test_importing_the_room_does_not_import_accelerate():
    code = "import sys, fewshot_automl.training; print('accelerate' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
