"""What an update tries again, and what it takes over as it is."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.saved import own_encoder
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.finished import Finished
from fewshot_automl.automl.record import ledger_of
from fewshot_automl.automl.search import Carried
from fewshot_automl.finding import counted
from fewshot_automl.modalities import Input
from fewshot_automl.report.words import summary_of
from fewshot_automl.space import Config, Space
from fewshot_automl.tasks import metric_named

MOST_AGAIN: Final = 5
"""Configs that are tried again on the new labels, of those that take moments."""


def candidates(
    study: Finished,
    examples: Mapping[str, tuple[str, Input]],
    names: Sequence[str | None],
    classes: Sequence[str],
    seconds: float,
    say: Callable[[str], None],
) -> tuple[tuple[Config, ...], Carried]:
    """Return the Configs to try again, and what is carried over of others.

    Tried again are the members that take moments, and the best that could not be told
    apart from the model, one of each kind first. Of members that train, those that
    there is time for; the others are carried over, if their classes still are classes.

    Args:
        study: The finished one.
        examples: All examples by their content hash there, with the hash that they have
            from now on.
        names: What each class of the study is called now; None if it was left out.
        classes: All classes now, in order.
        seconds: For trainings.
        say: Hears what is done with members that train.
    """
    summary, ledger = study.summary, ledger_of(study.folder, Space(()))
    history = ledger.history()
    rows = {row["number"]: place for place, row in enumerate(summary["members"])}
    trained = [i for i in rows if _trains(history[i][0])]
    equal = sorted(summary["indistinguishable"], key=lambda i: -history[i][1].mean)
    cheap = [i for i in dict.fromkeys([*rows, *equal]) if not _trains(history[i][0])]
    kinds: dict[object, list[int]] = {}
    for i in cheap:
        config = history[i][0]
        kind = config.text("method"), config.get("backbone", "")
        kinds.setdefault(i if i in rows else kind, []).append(i)
    first = [some[0] for some in kinds.values()]
    again = list(dict.fromkeys([*first, *cheap]))[:MOST_AGAIN]
    moved = np.array([[name == one for one in classes] for name in names], np.float32)
    is_same = [*names] == [*classes]
    outputs: dict[Config, dict[str, np.ndarray]] = {}
    fitted = []
    for i in trained:
        config, outcome = history[i]
        folds = max(len(outcome.scores), 1)
        each = outcome.cost_seconds / folds
        if (folds + 1) * each <= seconds:
            again.append(i)
            seconds -= (folds + 1) * each
        elif moved.any(axis=0).all():
            known = _earlier(study, ledger.outputs(config), examples, rows[i])
            outputs[config] = {key: _moved(x, moved) for key, x in known.items()}
            stays = is_same and each > seconds
            fitted += [config] * stays
            seconds -= 0.0 if stays else each
            how = "stays as it is fitted" if stays else "is fitted once"
            say(f"{summary_of(config)} {how}, and not cross-validated again")
        else:
            need = counted(round((folds + 1) * each), "second")
            say(f"{summary_of(config)} left out, for its trainings take about {need}")
    if not again and not outputs:  # rather late than no model
        again = trained[:1]
    score, count = summary["score"], len(summary["keys"])
    metric = metric_named(score["metric"])
    luck = metric.orient(score["raw"]) - metric.orient(score["corrected"])
    share = sum(key in examples for key in summary["keys"]) / max(len(examples), 1)
    order = sorted(again, key=lambda i: list(rows).index(i) if i in rows else count)
    return tuple(history[i][0] for i in order), Carried(
        outputs=outputs, fitted=frozenset(fitted), luck=max(luck, 0.0) * share
    )


def _trains(config: Config) -> bool:
    return METHODS[config.text("method")].trains


def _earlier(
    study: Finished,
    outputs: np.ndarray,
    examples: Mapping[str, tuple[str, Input]],
    place: int,
) -> dict[str, np.ndarray]:
    """Return what models say of examples that they had not learnt from.

    Cross-validated outputs of those that the study had, and what the member that stands
    at this place says of new ones.
    """
    keys = study.summary["keys"]
    rows = zip(keys, outputs.transpose(1, 0, 2), strict=True)
    known = {examples[key][0]: row for key, row in rows if key in examples}
    new = [pair for key, pair in examples.items() if key not in {*keys}]
    if new:
        whole = study.model.fitted
        members = getattr(whole, "members", None)
        fitted = whole if members is None else members[place].fitted
        inputs = tuple(example for _, example in new)
        said = fitted.outputs(Encodings(inputs=inputs, encoder=own_encoder(fitted)))
        repeated = np.repeat(said[:, None], len(outputs), axis=1)
        known |= {key: row for (key, _), row in zip(new, repeated, strict=True)}
    return known


def _moved(outputs: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Return outputs of earlier classes as those of what the classes are now."""
    now = outputs @ moved
    return np.asarray(now / np.maximum(now.sum(axis=-1, keepdims=True), 1e-12))
