import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def costs():
    from policy_numbers import Counted

    from fewshot_automl.policy import CostModel

    return CostModel(arithmetic=Counted(), cheap_folds=12, training_folds=4)
