"""A study that is ready, run: policy, oracle and trials go into one loop."""

import time
from dataclasses import replace
from functools import partial
from typing import Final

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl import ahead
from fewshot_automl.automl.prepare import Prepared
from fewshot_automl.executors import executor_named
from fewshot_automl.oracle import oracle_named
from fewshot_automl.policy import Allowed, Opening
from fewshot_automl.study import Study, StudyEnd, run
from fewshot_automl.training.placement import shared_gpus
from fewshot_automl.trial import evaluate

HOPEFUL_SHARE: Final = 0.8
"""Of what is expected; a trial with less time than that is not started. A trial that
runs out of time costs only time that nothing else could have used."""


def search(ready: Prepared) -> StudyEnd:
    """Try Configs until the budget is spent, or nothing is left to try."""
    settings, costs, leader = ready.settings, ready.costs, ready.leader
    allowed = Allowed(
        leader=leader,
        costs=costs,
        plan=ready.plan,
        remaining=lambda: ready.budget.remaining(time.monotonic()),
        members=ready.members,
        tested=ready.tested,
    )
    executor = executor_named(
        settings.executor, settings.workers, gpus=shared_gpus(settings.device)
    )
    ready.libraries.join()  # lest the first trials be timed with it
    ahead.start(ahead.importing(ahead.ORACLE))
    study = Study(
        space=ready.space,
        evaluate=partial(evaluate, ready.context),
        oracle=oracle_named(settings.oracle, prior=leader.prior, aims=leader.aims),
        ledger=ready.ledger,
        executor=executor,
        budget=ready.budget,
        opening=Opening(methods=tuple(METHODS.values()), allowed=allowed),
        allows=allowed,
        reserve=allowed.reserve,
        expected_seconds=lambda config, history: (
            HOPEFUL_SHARE * costs.after(history).seconds(config)
        ),
        thinks_ahead=settings.executor != "in_process",
        seed=settings.seed,
        on_event=ready.listener.trial,
    )
    try:
        end = run(study)
    finally:
        executor.shutdown()
    if end.ending != "exhausted":
        return end
    # Is there something left that only takes too long now?
    counting = [pair for pair in end.history if pair[1].status != "stopped"]
    keeps = allowed.within_limits(counting)
    left = oracle_named("sobol").suggest(ready.space, counting, 1, 0, keeps)
    return replace(end, ending="seconds") if left else end
