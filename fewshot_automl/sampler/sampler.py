"""Our oracle as a sampler of Optuna."""

import logging
import threading
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import History, Oracle
from fewshot_automl.sampler.history import (
    aims_of,
    as_attributes,
    given,
    history_of,
    is_under_way,
)
from fewshot_automl.sampler.parameter import Parameter
from fewshot_automl.sampler.structure import Structure

logger = logging.getLogger(__name__)

MOST_AHEAD: Final = 16
"""Most running trials that are taken to be about to get the suggestions before."""
_ONE_AT_A_TIME: Final = threading.Lock()
"""Threads of one study take turns, so that each sees what the others were given."""


class FewShotSampler(BaseSampler):
    """Suggests the parameters of an Optuna study by one of our oracles.

    The space is read off the trials: which parameters there are, and on which values
    of categories or small integers each depends (see `Structure`). So an objective
    with branches is searched as one conditional space, not branch by branch. A
    parameter that was never asked for before, or whose presence nothing explains, is
    drawn at random.

    Running trials count as pending, failed and infinite ones as failures. A pruned
    trial counts with the last value it reported. A standard error of a trial's value,
    if you have one (from cross-validation, say), makes the search robust to luck:
    `trial.set_user_attr("fewshot_standard_error", ...)`.

    With several objectives it seeks their Pareto front, and it keeps away from what
    breaks a constraint (`trial.set_constraint`).

    The sampler keeps no state: it reads the study each time, so a study can be gone
    on with by another process, and by several at once. With one job and a seed, the
    same values give the same suggestions.

    >>> import optuna
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=FewShotSampler(seed=0))
    >>> study.optimize(lambda t: (t.suggest_float("x", -5, 5) - 2) ** 2, n_trials=9)
    >>> study.best_value < 1.0
    True
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        oracle: Oracle | None = None,
        independent_sampler: BaseSampler | None = None,
    ) -> None:
        """Make a sampler.

        Args:
            seed: Makes suggestions repeatable; not negative. None draws one.
            oracle: What suggests; our Gaussian process if None.
            independent_sampler: What draws parameters that the oracle does not know;
                None draws them uniformly.

        Raises:
            UserError: If the seed is negative.
        """
        if seed is not None and seed < 0:
            raise UserError(f"seed must be 0 or more, got {seed}. Use 0, or None.")
        drawn = int(np.random.default_rng().integers(2**31))
        self._seed = drawn if seed is None else seed
        self._oracle = oracle
        self._independent_sampler = independent_sampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that the oracle will choose together."""
        return Structure.of(_started(study), None).distributions

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        """Return what the oracle suggests for these parameters.

        Raises:
            UserError: If the study has several objectives or constraints, and the
                oracle is none that takes them.
        """
        if not search_space:
            return {}
        with _ONE_AT_A_TIME:
            params = self._suggested(study, trial, set(search_space))
            for name, text in as_attributes(params, search_space).items():
                study._storage.set_trial_system_attr(trial._trial_id, name, text)
        return params

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a value for a parameter that the oracle did not choose."""
        if self._independent_sampler is not None:
            return self._independent_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        seeds = [self._seed, trial.number, zlib.crc32(param_name.encode())]
        parameter = Parameter(param_name, param_name, param_distribution)
        unit = float(np.random.default_rng(seeds).random())
        return parameter.outward(parameter.dimension(()).decode(unit))

    def _suggested(
        self, study: Study, trial: FrozenTrial, names: set[str]
    ) -> dict[str, Any]:
        trials = [t for t in _started(study) if t.number != trial.number]
        structure = Structure.of(trials, names)
        history = history_of(trials, structure, study.directions)
        ahead = _about_to_ask(trials, trial.number)
        configs = self._oracle_for(len(study.directions), history).suggest(
            structure.space,
            history,
            1 + len(ahead),
            self._seed,
            structure.beside(given(trial, structure)),
        )
        if not configs:
            logger.info("Every point of the space was tried; drawing at random.")
            return {}
        return structure.params(configs[-1])

    def _oracle_for(self, values: int, history: History) -> Oracle:
        """Return the oracle, told of the study's objectives and constraints."""
        from fewshot_automl.oracle.gp import GpOracle  # takes half a second

        oracle = self._oracle or GpOracle()
        aims = aims_of(values, history)
        if aims.is_plain:
            return oracle
        if not isinstance(oracle, GpOracle):
            raise UserError(
                "Oracle of a study with several objectives or constraints must be a "
                f"GpOracle, got {type(oracle).__name__}. Leave out oracle."
            )
        return replace(oracle, aims=aims) if oracle.aims.is_plain else oracle

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tell the independent sampler."""
        if self._independent_sampler is not None:
            self._independent_sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Tell the independent sampler."""
        if self._independent_sampler is not None:
            self._independent_sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Tell the independent sampler; ours draws by the number of the trial."""
        if self._independent_sampler is not None:
            self._independent_sampler.reseed_rng()


def _started(study: Study) -> list[FrozenTrial]:
    states = tuple(state for state in TrialState if state != TrialState.WAITING)
    return study.get_trials(deepcopy=False, states=states)


def _about_to_ask(trials: Sequence[FrozenTrial], number: int) -> list[FrozenTrial]:
    """Return earlier trials that run but know no parameter yet.

    They will be given the suggestions before this one.
    """
    running = (t for t in trials if t.state == TrialState.RUNNING)
    ahead = [t for t in running if t.number < number and not is_under_way(t)]
    return ahead[:MOST_AHEAD]
