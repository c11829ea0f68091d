import subprocess
import sys

import pytest

from fewshot_automl.errors import UnknownNameError
from fewshot_automl.oracle import ORACLES, Oracle, oracle_named


def test_every_entry_makes_an_oracle():
    assert all(isinstance(make(), Oracle) for make in ORACLES.values())


def test_an_unknown_oracle_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="sobol"):
        oracle_named("sobel")


def test_importing_the_room_imports_no_torch():
    code = (
        "import sys, fewshot_automl.oracle; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'botorch', 'gpytorch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
