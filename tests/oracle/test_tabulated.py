import numpy as np
import torch

from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.libraries import (
    SobolQMCNormalSampler,
    qLogNoisyExpectedImprovement,
)
from fewshot_automl.oracle.surrogate import fit_scores
from fewshot_automl.oracle.tabulated import Tabulated
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Float, Space, When

SPACE = Space(
    (
        Choice(name="m", options=("a", "b")),
        Float(name="x", low=0.0, high=1.0, when=(When("m", ("a",)),)),
        Float(name="y", low=0.0, high=1.0),
    )
)


def test_improvement_is_the_same_as_without_the_table():
    configs = RandomOracle().suggest(SPACE, [], 40, 0)
    history = [
        (c, Outcome(status="done", mean=np.sin(4 * c["y"]), standard_error=0.1))
        for c in configs[:10]
    ]
    evidence = Evidence.of(SPACE, history)
    model = fit_scores(evidence, steps=20, seed=0).model
    rows = torch.from_numpy(evidence.encoding.encode(configs))
    table = Tabulated(model, rows)
    values = []
    for source, baseline, pending, candidates in (
        (model, rows[:10], rows[10:12], rows[12:]),
        (table, *(table.inputs(r) for r in (range(10), range(10, 12), range(12, 40)))),
    ):
        acquisition = qLogNoisyExpectedImprovement(
            source,
            X_baseline=baseline,
            X_pending=pending,
            sampler=SobolQMCNormalSampler(torch.Size([64]), seed=0),
            prune_baseline=False,
        )
        with torch.no_grad():
            values.append(acquisition(candidates.unsqueeze(-2)))
    torch.testing.assert_close(values[0], values[1], atol=0.02, rtol=0.01)
