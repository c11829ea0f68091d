import subprocess
import sys

import pytest

from fewshot_automl.errors import UnknownNameError
from fewshot_automl.oracle import ORACLES, Oracle, oracle_named
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.space import Float, Space


def test_every_entry_makes_an_oracle():
    assert all(isinstance(make(), Oracle) for make in ORACLES.values())


@pytest.mark.parametrize("name", ORACLES)
def test_every_oracle_can_be_given_advisers(name):
    oracle = oracle_named(name, (Prior(),))
    space = Space((Float(name="x", low=0.0, high=1.0),))
    (config,) = oracle.suggest(space, [], 1, 0)
    assert space.contains(config)


def test_an_unknown_oracle_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="sobol"):
        oracle_named("sobel")


def test_oracles_need_no_torch_and_listing_them_no_scipy():
    code = (
        "import sys, fewshot_automl.oracle; assert 'scipy' not in sys.modules; "
        "import fewshot_automl.oracle.gp; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
