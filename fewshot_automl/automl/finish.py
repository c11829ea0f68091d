"""From a history to a model: choose, score, fit to everything, save, report."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble, Member
from fewshot_automl.automl.audited import Audited
from fewshot_automl.automl.delivery import deliver, delivered_measures, scored
from fewshot_automl.automl.fitting import fitted_winner, with_partners
from fewshot_automl.automl.limits import beside_limit, say_limits
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.result import RESULT_FILE, Result
from fewshot_automl.automl.scoring import equal_trials, honest_score, partners_of
from fewshot_automl.automl.tried import Outputs, Tried, cross_calibrated
from fewshot_automl.errors import RunError
from fewshot_automl.evaluation.measures import MEASURES, SCORE
from fewshot_automl.ledger import Ledger
from fewshot_automl.ledger.outputs import write_outputs
from fewshot_automl.oracle import Aims, Objective, pareto_front
from fewshot_automl.outcome import History
from fewshot_automl.policy import CostModel, Leader, Ranking, broken, saving_seconds
from fewshot_automl.predictor import Predictor
from fewshot_automl.report import write_report
from fewshot_automl.study import Budget, StudyEnd
from fewshot_automl.tasks import Metric
from fewshot_automl.trial import TrialContext

LATE_SHARE: Final = 0.05
"""Of the budget, that the final fit may go past its end before a cheap one is
taken; as much again is left for saving."""
FAR: Final = 3.0
"""Standard errors above the raw score at which a posterior mean is not believed."""
NO_LUCK: Final = {
    name: lambda config: math.nan for name, row in MEASURES.items() if row.adds_up
}
"""Measures that are counted, or timed once for all Configs that are alike."""
MODEL_PREDICTIONS: Final = "predictions/model.safetensors"
"""Out-of-fold outputs of the model, relative to the study's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Turns a study's history into a saved, scored, reported model."""

    audited: Audited
    """The examples."""
    context: TrialContext
    """Where to fit."""
    ledger: Ledger
    """Keeps the outputs of the trials."""
    costs: CostModel
    """What fits take."""
    leader: Leader
    """Who wins."""
    aims: Aims
    """Objectives and limits."""
    budget: Budget
    """When to be ready."""
    members: int
    """Most models averaged."""
    folder: Path
    """The study's."""
    listener: Listener
    """Told of what gives way."""
    facts: dict[str, Any]
    """What else the summary says."""

    def __call__(self, end: StudyEnd) -> Result:
        """Return the result of a study.

        The model keeps all limits if some trial does. If none does, it is the one that
        comes closest, and marked.

        Raises:
            RunError: If no trial was done, or none on a backbone that is at hand.
        """
        history, seed = end.history, self.context.seed
        problem, limits = self.context.problem, self.aims.limits
        tried = Tried(problem=problem, history=history, ledger=self.ledger)
        ranking = self.leader(history)
        self._check(history, ranking)
        best = ranking.order[0]
        self.listener.say(
            f"Fitting the winner to all {len(problem.targets)} labelled examples."
        )
        costs = self.costs.after(history)
        saving = saving_seconds(costs, self.budget.seconds or math.inf)
        fits = self.members * costs.refit_seconds(tried.config(best))
        limit = self._ready_by(saving + 2 * fits)
        late = LATE_SHARE * (self.budget.seconds or 0.0)
        winner, fitted = fitted_winner(
            self.context,
            tried,
            ranking.order,
            None if limit is None else limit + late,
            self.listener,
            limits if ranking.holds else (),
        )
        equal = equal_trials(tried, winner, seed)
        if limits:
            equal = [i for i in equal if i in ranking.order or i == winner]
        wanted = partners_of(
            tried,
            winner,
            [i for i in equal if self.context.is_at_hand(tried.config(i))],
            most=self.members - 1,
            holds=lambda numbers: (
                not (limits and broken(limits, tried.measures(numbers)))
            ),
        )
        test = self.audited.test
        tested = 0 if test is None else len(test)
        parts = with_partners(
            {winner: fitted},
            [partner for partner in wanted if partner != best],  # it couldn't be fitted
            tried,
            self.context,
            seconds=lambda number: (
                costs.refit_seconds(tried.config(number)),
                costs.scoring_seconds(tried.config(number), tested),
            ),
            promised=saving + costs.scoring_seconds(tried.config(winner), tested),
            deadline=limit,
            listener=self.listener,
            limits=limits,
        )
        numbers = list(parts)
        model, outputs = self._model(tried, parts)
        assigned = problem.folds.assignment[: len(outputs)]
        calibrated = cross_calibrated(problem, outputs, assigned)
        allowed = {i: ranking.scores[i] for i in ranking.order}
        score = honest_score(tried, allowed, calibrated, seed)
        config = tried.config(winner)
        calibration = problem.task.rules.fit_calibration(problem.targets, outputs)
        known = {
            **self.facts,
            **self._license(tried, numbers),
            "score": score.to_json(),
            "members": [
                {"number": number, "config": tried.config(number).to_json()}
                for number in numbers
            ],
            "seed": seed,
            "calibration": calibration,
        }
        fresh = Predictor(
            task=problem.task,
            config=config,
            fitted=model,
            columns=self.audited.dataset.columns,
            calibration=calibration,
            facts=known,
        )
        predictor = deliver(fresh, self.folder / "model", self.context)
        measures = delivered_measures(predictor, numbers, tried, outputs, limits)
        say_limits(limits, measures, self.listener)
        statuses = [outcome.status for _, outcome in history]
        summary = {
            **known,
            "versions": dict(predictor.versions),
            "task": problem.task.to_json(),
            "winner": {"number": winner, "config": config.to_json()},
            "predictions": MODEL_PREDICTIONS,
            "indistinguishable": equal,
            **self._account(history, ranking, measures),
            "baselines": _baselines(tried),
            "labels": problem.targets.tolist(),
            "origins": list(self.audited.labelled.origins),
            "folds": [len(problem.folds.first), len(problem.folds.repeats)],
            "trials": {s: statuses.count(s) for s in ("done", "failed", "stopped")},
            "ending": end.ending,
            "test": None if test is None else scored(fresh, test, self.context),
            "seconds": round(self.budget.used(time.monotonic()), 1),
            "budget_seconds": self.budget.seconds,
        }
        (self.folder / RESULT_FILE).write_text(json.dumps(summary, indent=2), "utf-8")
        write_report(self.folder, summary, list(history))
        return Result(
            folder=self.folder,
            task=problem.task,
            score=score,
            config=config,
            history=history,
            predictor=predictor,
            summary=summary,
        )

    def _check(self, history: History, ranking: Ranking) -> None:
        """Say what keeps the best trial from being the model.

        Raises:
            RunError: If there is none that could be.
        """
        scores = ranking.scores
        if not scores:
            raise RunError(_why_nothing(history))
        best = max(scores, key=lambda i: (scores[i], history[i][1].mean, -i))
        if not ranking.order:
            raise RunError(
                "A finished trial must use a backbone that is at hand to become the "
                f"model, got none; the best was {history[best][0]}. Fetch its backbone "
                "with: fewshot zoo get, or give a larger budget."
            )
        if not self.context.is_at_hand(history[best][0]):
            self.listener.say(
                f"The best trial ({history[best][0]}) used a backbone that is not at "
                "hand any more; the best of the others takes its place."
            )
        if not ranking.holds:
            config, outcome = history[ranking.order[0]]
            beyond = broken(self.aims.limits, outcome.measures)
            named = ", ".join(beside_limit(x, outcome.measures) for x in beyond)
            self.listener.say(
                "warning: No trial keeps all limits. The model is the one that comes "
                f"closest, {config}: {named}. Loosen the limit, or search on with a "
                "larger budget."
            )

    def _model(
        self, tried: Tried, parts: Mapping[int, Fitted]
    ) -> tuple[Fitted, Outputs]:
        """Return the model of one or several fitted trials, and its outputs.

        The out-of-fold outputs are kept beside those of the trials.
        """
        outputs = tried.together(list(parts))
        model = next(iter(parts.values()))
        if len(parts) > 1:
            model = Ensemble(
                members=tuple(
                    Member(
                        fitted=fitted,
                        calibration=tried.calibration(number),
                        encoder=self.context.encodings(tried.config(number)).encoder,
                    )
                    for number, fitted in parts.items()
                ),
                kind=self.context.problem.task.kind,
            )
        write_outputs(self.folder / MODEL_PREDICTIONS, outputs.astype(np.float32))
        return model, outputs

    def _ready_by(self, needed: float) -> float | None:
        """Return when the model should be ready, on the clock of `time.monotonic`.

        A study that is resumed when its time is spent still gets the seconds that its
        model needs: whoever resumes it wants the model.
        """
        if self.budget.end is None or self.budget.used_before == 0:
            return self.budget.end
        return max(self.budget.end, time.monotonic() + needed)

    def _license(self, tried: Tried, numbers: Sequence[int]) -> dict[str, str]:
        """Return the licences of the weights a model rests on; nothing without any."""
        configs = [tried.config(number) for number in numbers]
        names = [config.text("backbone") for config in configs if "backbone" in config]
        found = dict.fromkeys(self.context.card(name).license for name in names)
        return {"license": ", ".join(found)} if found else {}

    def _account(
        self, history: History, ranking: Ranking, measures: Mapping[str, float]
    ) -> dict[str, Any]:
        """Return what `result.json` says of objectives and limits."""
        limits, metric = self.aims.limits, self.context.problem.task.measured
        shown = {
            i: _shown(history, i, score, metric) for i, score in ranking.scores.items()
        }
        over = [i for i in shown if broken(limits, history[i][1].measures)]
        return {
            "objectives": [one.name for one in self.aims.objectives],
            "measures": dict(measures),
            "limits": [
                {
                    **asdict(limit),
                    "value": measures[limit.name],
                    "is_kept": limit.allows(measures[limit.name]),
                }
                for limit in limits
            ],
            "is_feasible": not broken(limits, measures),
            "over": over,
            "keeping": len(shown) - len(over),
            "smoothed": [shown.get(i) for i in range(len(history))],
            "front": self._front(history, shown),
        }

    def _front(
        self, history: History, shown: Mapping[int, float]
    ) -> list[dict[str, Any]]:
        """Return the trials of the front, the best score first; none if nobody asked.

        Measures that are only limited count as objectives here: how much score a
        tighter limit would cost is what one wants to see.
        """
        names = {one.name for one in self.aims.objectives}
        every = [
            *self.aims.objectives,
            *(
                Objective(limit.name, maximise=MEASURES[limit.name].is_maximised)
                for limit in self.aims.limits
                if limit.name not in names
            ),
        ]
        if len(every) == 1:
            return []
        aims = Aims(objectives=tuple(every), limits=self.aims.limits, exact=NO_LUCK)
        front = pareto_front(
            self.leader.space, history, aims, self.context.seed, scores=shown
        )
        return [
            {
                "number": i,
                "config": history[i][0].to_json(),
                SCORE: shown[i],
                **{one.name: history[i][1].measures[one.name] for one in every[1:]},
            }
            for i in sorted(front, key=lambda i: -shown[i])
        ]


def _shown(history: History, number: int, score: float, metric: Metric) -> float:
    """Return a posterior mean as it is shown: a surrogate knows no bounds.

    Scores far below all others are moved by it onto a fence, which is right to rank by
    and wrong to show: `FAR` standard errors from it, the raw score stands.
    """
    outcome = history[number][1]
    if score - outcome.mean > FAR * outcome.standard_error:
        score = outcome.mean
    least, greatest = metric.limits
    return min(max(score, least), greatest)


def _baselines(tried: Tried) -> list[dict[str, Any]]:
    """Return the best trial of each cheap method, in the metric's own direction."""
    metric = tried.problem.task.measured
    best: dict[str, int] = {}
    for i in tried.done:
        name = tried.config(i).text("method")
        if not tried.trains(i) and (
            name not in best or tried.outcome(i).mean > tried.outcome(best[name]).mean
        ):
            best[name] = i
    return [
        {
            "method": name,
            "config": tried.config(i).to_json(),
            "score": metric.orient(tried.outcome(i).mean),
            "standard_error": tried.outcome(i).standard_error,
        }
        for name, i in best.items()
    ]


def _why_nothing(history: History) -> str:
    reasons = {outcome.reason for _, outcome in history if outcome.reason}
    listed = " ".join(sorted(reasons)[:5]) or "The budget ended before the first trial."
    return f"No trial could be finished. {listed} Give a larger budget."
