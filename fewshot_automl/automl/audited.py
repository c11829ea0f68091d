"""The examples that a fit is given, checked before anything is spent on them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.settings import Settings
from fewshot_automl.data import Dataset, Examples, Source, read_like
from fewshot_automl.data.audit import audit
from fewshot_automl.modalities import content_hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """Examples and a task that passed the audit."""

    dataset: Dataset
    """What was read."""
    labelled: Examples
    """What is learnt from."""
    keys: tuple[str, ...]
    """Content hashes of the labelled examples."""
    test: Examples | None
    """What the model is scored on at the end."""
    facts: dict[str, Any]
    """What the report says about the data."""

    @property
    def profile(self) -> Profile:
        """Return what dimensions depend on."""
        return Profile.of(self.dataset.task, self.labelled.targets)


def audited(
    dataset: Dataset,
    data: Source,
    test: Source | None,
    settings: Settings,
    listener: Listener,
) -> Audited:
    """Return the labelled examples of a dataset; the listener hears what is odd.

    Raises:
        DataError: If nothing can be learnt from the data.
    """
    for sentence in dataset.inferred:
        listener.say(sentence)
    tested = None
    if test is not None:
        columns = dataset.columns
        tested = read_like(test, dataset.task, columns, columns.target)
    findings = audit(dataset, test=tested, strict=settings.is_strict)
    for line in findings.lines():
        listener.say(line)
    findings.raise_if_fatal()
    labelled = findings.examples.labelled(dataset.task)
    return Audited(
        dataset=dataset,
        labelled=labelled,
        keys=content_hashes(labelled.inputs),
        test=tested,
        facts={
            "data": str(data) if isinstance(data, str | Path) else type(data).__name__,
            "labelled": len(labelled),
            "unlabelled": len(findings.examples) - len(labelled),
            **dataset.task.rules.facts(labelled.targets),
            "inferred": list(dataset.inferred),
            "findings": findings.lines(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
