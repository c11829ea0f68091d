import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import fewshot_automl

ROOT = Path(fewshot_automl.__file__).parents[1]
SCRIPT = Path(__file__).with_name("two_processes.py")

CASES = {  # loss, batch size, what one of the processes can hold
    "cross-entropy": ("entropy", 12, 30),
    "contrastive": ("contrastive", 12, 30),
    "a batch that two does not divide": ("contrastive", 11, 30),
    "one process short of memory": ("contrastive", 12, 3),
}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Start two processes once; return what each reports of every case."""
    folder = tmp_path_factory.mktemp("two")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), json.dumps(list(CASES.values()))],
        env={
            **os.environ,
            "FEWSHOT_DEVICE": "cpu",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    reports = [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [report["world"] for report in reports] == [2, 2]
    return [report["runs"] for report in reports]


@pytest.fixture(scope="module")
def alone():
    """Return the same fit for this one process."""
    spec = importlib.util.spec_from_file_location("two_processes", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_DEVICE", "cpu")
        yield script.fit


@pytest.mark.parametrize("which", range(len(CASES)), ids=list(CASES))
def test_two_processes_end_with_the_weights_of_one(two, alone, which):
    name, batch_size, holds = list(CASES.values())[which]
    one = alone(name, batch_size, 30)
    first, second = two[0][which], two[1][which]
    assert first["weights"] == second["weights"]
    assert first["losses"] == second["losses"]
    assert first["best"] == second["best"] == 0.0
    assert first["parts"] == second["parts"] == (1 if holds == 30 else 2)
    np.testing.assert_allclose(first["losses"], one["losses"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(first["weights"], one["weights"], rtol=1e-3, atol=1e-5)
    assert one["losses"][-1] < one["losses"][0] / 1.5
