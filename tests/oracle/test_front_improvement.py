import numpy as np
import pytest
import torch
from fewshot_automl.oracle.front_improvement import (
    FrontImprovement,
    Prospects,
    Standard,
)
from fewshot_automl.oracle.hypervolume import free_boxes
from fewshot_automl.oracle.improvement import LOWEST_BAR, Improvement
from fewshot_automl.oracle.process import Points, Process

from fewshot_automl.oracle.encoding import Layout
from fewshot_automl.oracle.kernel import Kernel

LAYOUT = Layout(continuous=(0, 0), categorical=(), groups=1)
GENERATOR = np.random.default_rng(0)
ROWS, PENDING, OTHERS = (GENERATOR.random((n, 2)) for n in (10, 2, 40))
NOBODY = ROWS[:0]
LENGTHSCALES, SCALE, NOISE = np.array([0.3, 0.8]), 1.2, 0.04
VALUES = np.stack(
    [
        np.sin(6 * ROWS[:, 0]),
        np.cos(5 * ROWS[:, 0]) + ROWS[:, 1],
        1.5 * ROWS[:, 1] - ROWS[:, 0],
    ],
    axis=1,
)
PROCESSES = [
    Process.given(
        Kernel.of(LAYOUT, np.append(LENGTHSCALES, SCALE)),
        ROWS,
        values,
        np.full(10, NOISE),
    )
    for values in VALUES.T
]
UNLIMITED = (-np.inf, np.inf)


def known(rows):
    """Return a quantity that a row fixes."""
    return -np.round(rows[:, 1], 1)


def prospects(rows, kinds):
    """Return quantities at rows: of a process by its number, or the known one."""
    return Prospects(
        tuple(
            known(rows) if kind == "known" else PROCESSES[kind].look_up(rows)
            for kind in kinds
        )
    )


def improvement(kinds, standard, seen=ROWS, pending=NOBODY, samples=1024, picks=4):
    return FrontImprovement(
        prospects(seen, kinds),
        prospects(pending, kinds),
        standard,
        samples=samples,
        picks=picks,
        seed=0,
    )


def plain_gains(kinds, standard, candidates, others, draws=3000):
    """Return what candidates add to the front of others, by plain Monte Carlo."""
    generator = np.random.default_rng(1)
    both = np.vstack([others, candidates])
    values = np.empty((draws, len(both), len(kinds)))
    for i, view in enumerate(prospects(both, kinds).views):
        if isinstance(view, Points):
            root = np.linalg.cholesky(view.covariance(view) + 1e-9 * np.eye(len(both)))
            normal = generator.standard_normal((draws, len(both)))
            values[..., i] = view.means + normal @ root.T
        else:
            values[..., i] = view
    allowed = standard.allows(values)
    reference, n = np.array(standard.reference), len(others)
    total = np.zeros(len(candidates))
    for sample, is_allowed in zip(values[..., : len(reference)], allowed, strict=True):
        lower, upper = free_boxes(sample[:n][is_allowed[:n]], reference)
        lengths = np.minimum(sample[n:, None], upper) - lower
        total += np.maximum(lengths, 0).prod(-1).sum(-1) * is_allowed[n:]
    return total / draws


CASES = {
    "one": ((0,), Standard((UNLIMITED,), (LOWEST_BAR,))),
    "two": ((0, 1), Standard((UNLIMITED,) * 2, (-0.5, 0.0))),
    "three": ((0, 1, 2), Standard((UNLIMITED,) * 3, (-0.5, 0.0, -0.5))),
    "one known": ((0, "known"), Standard((UNLIMITED,) * 2, (-0.5, -0.85))),
    "measured limit": ((0, 1), Standard((UNLIMITED, (0.6, np.inf)), (-1.0,))),
    "range": ((0, 1, 2), Standard((*(UNLIMITED,) * 2, (-0.2, 0.8)), (-0.5, 0.0))),
    "known limit": (
        (0, 1, "known"),
        Standard((*(UNLIMITED,) * 2, (-0.45, np.inf)), (-0.5, 0.0)),
    ),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("pending", [NOBODY, PENDING], ids=["none", "two"])
def test_values_are_what_is_expected_to_be_added(case, pending):
    kinds, standard = CASES[case]
    found = improvement(kinds, standard, pending=pending)
    gains = np.exp(found.values(prospects(OTHERS, kinds)))
    plain = plain_gains(kinds, standard, OTHERS, np.vstack([ROWS, pending]))
    np.testing.assert_allclose(gains, plain, rtol=0.15, atol=0.015 * plain.max())
    assert gains[np.argmax(plain)] >= 0.97 * gains.max()


@pytest.mark.parametrize("case", CASES)
def test_each_pick_is_the_best_given_those_before_it(case):
    kinds, standard = CASES[case]
    found = improvement(kinds, standard, pending=PENDING, samples=512)
    picks = found.greedy(prospects(OTHERS, kinds), np.zeros(40), 3)
    others = np.vstack([ROWS, PENDING])
    for pick in picks:
        gains = plain_gains(kinds, standard, OTHERS, others, draws=1000)
        assert gains[pick] >= 0.85 * gains.max()
        others = np.vstack([others, OTHERS[pick]])
    assert len(set(picks)) == 3


def test_one_goal_without_limits_is_the_plain_improvement():
    kinds, standard = CASES["one"]
    ours = improvement(kinds, standard, pending=PENDING)
    points, pending = PROCESSES[0].look_up(OTHERS), PROCESSES[0].look_up(PENDING)
    plain = Improvement(
        PROCESSES[0].look_up(ROWS), pending, samples=1024, picks=4, seed=0
    )
    values = ours.values(prospects(OTHERS, kinds))
    np.testing.assert_allclose(values, plain.values(points), atol=0.1)


def test_digits_are_kept_where_hardly_anything_can_be_added():
    far = Standard((UNLIMITED,) * 2, (30.0, 40.0))
    values = improvement((0, 1), far).values(prospects(OTHERS, (0, 1)))
    assert np.isfinite(values).all()
    assert values.max() < -300
    assert len(set(values.tolist())) == 40


def test_a_known_value_beyond_the_reference_is_worth_nothing_but_has_an_order():
    standard = Standard((UNLIMITED,) * 2, (-0.5, 0.5))
    points = prospects(OTHERS, (0, "known"))
    values = improvement((0, "known"), standard).values(points)
    assert np.isfinite(values).all()
    assert values.max() < -1e5
    assert known(OTHERS)[np.argmax(values)] == known(OTHERS).max()


def test_what_is_known_to_break_a_limit_is_never_picked_while_anything_else_is_left():
    kinds, standard = CASES["known limit"]
    points = prospects(OTHERS, kinds)
    allowed = int((known(OTHERS) >= -0.45).sum())
    found = improvement(kinds, standard, samples=16, picks=allowed + 1)
    picks = found.greedy(points, np.zeros(40), allowed + 1)
    assert (known(OTHERS[picks[:-1]]) >= -0.45).all()
    assert known(OTHERS[picks[-1:]])[0] < -0.45


def test_with_nothing_feasible_its_probability_decides():
    standard = Standard((UNLIMITED, (2.2, np.inf)), (LOWEST_BAR,))
    kinds = (0, 1)
    found = improvement(kinds, standard)
    view = prospects(OTHERS, kinds).views[1]
    assert isinstance(view, Points)
    chances = (view.means - 2.2) / np.sqrt(view.variances())
    (pick,) = found.greedy(prospects(OTHERS, kinds), np.zeros(40), 1)
    assert pick in np.argsort(-chances)[:2]


def test_a_bonus_can_decide_and_no_more_are_picked_than_there_are():
    kinds, standard = CASES["two"]
    bonus = np.zeros(40)
    bonus[7] = 100.0
    assert improvement(kinds, standard).greedy(prospects(OTHERS, kinds), bonus, 1) == [
        7
    ]
    few = improvement(kinds, standard).greedy(
        prospects(OTHERS[:3], kinds), np.zeros(3), 4
    )
    assert sorted(few) == [0, 1, 2]


@pytest.mark.parametrize("case", CASES)
def test_nothing_seen_is_no_trouble(case):
    kinds, standard = CASES[case]
    found = improvement(kinds, standard, seen=NOBODY, samples=16)
    assert len(found.greedy(prospects(OTHERS, kinds), np.zeros(40), 2)) == 2
    assert found.greedy(prospects(NOBODY, kinds), np.zeros(0), 2) == []


@pytest.mark.filterwarnings("ignore::Warning")  # botorch's and torch's own
@pytest.mark.parametrize("m", [2, 3])
def test_botorch_agrees(m, monkeypatch):
    """Its acquisition by plain sampling, on its own model of the same processes."""
    from botorch.acquisition.multi_objective import logei
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.kernels import MaternKernel, ScaleKernel

    rows, others = torch.from_numpy(ROWS), torch.from_numpy(OTHERS)
    # It would compile C++ first.
    monkeypatch.setattr(logei, "_try_load_fused_kernel", lambda: None)
    models = []
    for values, process in zip(VALUES.T[:m], PROCESSES, strict=False):
        covariance = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=2)).double()
        model = SingleTaskGP(
            rows,
            torch.from_numpy(values).unsqueeze(-1),
            torch.full((10, 1), NOISE, dtype=torch.float64),
            covar_module=covariance,
            outcome_transform=None,
        )
        covariance.outputscale = SCALE
        covariance.base_kernel.lengthscale = torch.from_numpy(LENGTHSCALES)
        model.mean_module.constant = process.centre
        models.append(model)
    kinds, standard = CASES["two" if m == 2 else "three"]
    with torch.no_grad():
        acquisition = logei.qLogNoisyExpectedHypervolumeImprovement(
            ModelListGP(*models).eval(),
            ref_point=list(standard.reference),
            X_baseline=rows,
            sampler=SobolQMCNormalSampler(torch.Size([512]), seed=0),
            prune_baseline=False,
            cache_root=False,
        )
        theirs = acquisition(others.unsqueeze(-2)).numpy()
    ours = improvement(kinds, standard).values(prospects(OTHERS, kinds))
    likely = ours > ours.max() - 4
    assert likely.sum() > 10
    np.testing.assert_allclose(ours[likely], theirs[likely], atol=0.15)
    assert theirs[np.argmax(ours)] >= theirs.max() - 0.05
