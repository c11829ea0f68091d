"""MODEL_CARD.md: what a model is, how good, and where it ends, for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from fewshot_automl.export.formats import Format
from fewshot_automl.export.graph import Graph
from fewshot_automl.export.verify import Proof
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task


def model_card(
    task: Task,
    study: Mapping[str, Any],
    graph: Graph,
    row: Format,
    proof: Proof,
    quantize: str | None,
) -> str:
    """Return the card; what the study does not say is left out.

    Args:
        task: What was learnt.
        study: What `result.json` says, or the facts of a predictor.
        graph: The model, with its backbones' cards.
        row: The format.
        proof: The comparison with the source.
        quantize: ``int8``, or None.
    """
    kind = " in int8" if quantize else ""
    parts = {
        "Task": [
            f"Tells {task.width} classes of {task.modality}s apart: "
            f"{', '.join(task.names)}.",
            *_decision(task),
        ],
        "Data": _data(study),
        "How it was chosen": _choice(study),
        "Score to expect": _score(study),
        "Calibration": _calibration(study),
        "Limits": _limits(task, graph),
        "Backbones and their licences": _backbones(graph),
        "This folder": [
            f"{row.title}{kind}. Compared with its source, through `predict.py`, on "
            "examples of the study:",
            "",
            "| | source | export |",
            "|---|---|---|",
            *(f"| {' | '.join(cells)} |" for cells in proof.rows),
            "",
            'Ask it, once `requirements.txt` is installed: `python predict.py "..."`.',
        ],
    }
    lines = [f"# Model card: {task.modality} to {task.width} classes", ""]
    for title, words in parts.items():
        if words:
            lines += [f"## {title}", "", *words, ""]
    return "\n".join(lines)


def _decision(task: Task) -> list[str]:
    if task.costs is None:
        return ["The answer is the most probable class."]
    said = "The answer is the one of least expected cost"
    if task.costs.limit is not None:
        said += ", or none (a person decides) where that costs less"
    return [f"{said}; `manifest.json` has the costs."]


def _data(study: Mapping[str, Any]) -> list[str]:
    if "labelled" not in study:
        return []
    said = f"{study['labelled']} labelled and {study.get('unlabelled', 0)} unlabelled "
    counts = study.get("class_counts", {})
    listed = ", ".join(f"{name} {count}" for name, count in counts.items())
    return [
        f"{said}examples, read on {study.get('date', 'a day nobody noted')[:10]}.",
        *([f"By class: {listed}."] if listed else []),
        *(f"- {line}" for line in study.get("findings", ())),
    ]


def _choice(study: Mapping[str, Any]) -> list[str]:
    members: Sequence[Mapping[str, Any]] = study.get("members", ())
    lines = [
        f"- weight {one['weight']:.2f}: {Config.from_json(one['config'])}"
        for one in members
    ]
    trials, seconds = study.get("trials", {}), study.get("seconds")
    if trials:
        lines.append(
            f"\nChosen among {trials['done']} finished trials by cross-validation, in "
            f"{seconds:.0f} s of wall time; seed {study['seed']}."
        )
    return lines


def _score(study: Mapping[str, Any]) -> list[str]:
    score = study.get("score", {})
    if "expected" not in score:
        return []
    name = score["metric"].replace("_", " ")
    lines = [
        f"{name} {score['expected']:.3f} on new data like the labelled examples, 95 % "
        f"interval {score['low']:.3f} to {score['high']:.3f}. Cross-validated: "
        f"{score['raw']:.3f}; corrected for having picked the best of many trials: "
        f"{score['corrected']:.3f}.",
    ]
    if score.get("majority") is not None:
        constant = f"Always giving the same answer scores {score['majority']:.3f}; "
        lines.append(f"{constant}the model is {score['against_majority']}.")
    if test := study.get("test"):
        listed = ", ".join(f"{n.replace('_', ' ')} {x:.3f}" for n, x in test.items())
        lines.append(f"On test data held back: {listed}.")
    return lines


def _calibration(study: Mapping[str, Any]) -> list[str]:
    found = study.get("calibration", {})
    if "temperature" not in found:
        return []
    return [
        f"Probabilities are at temperature {found['temperature']:.3f}, fitted to "
        "out-of-fold predictions; it is inside the model."
    ]


def _limits(task: Task, graph: Graph) -> list[str]:
    lines = [
        "- It knows only these classes: whatever it is shown, it answers one of them"
        + (
            ", or none."
            if task.costs and task.costs.limit is not None
            else ", also where none is right."
        ),
        "- The score holds for examples drawn as the labelled ones were.",
    ]
    lines += [
        f"- Of a text, at most {feed.recipe['max_tokens']} tokens are read."
        for feed in graph.feeds
        if feed.kind == "text"
    ]
    return lines


def _backbones(graph: Graph) -> list[str]:
    if not graph.backbones:
        return ["None: only words are counted."]
    cards = {each.card.id: each.card for each in graph.backbones}
    return [
        f"- {card.id}: {card.license} ({card.license_source}). Pretraining: "
        f"{card.pretraining}. Paper: {card.paper}."
        for card in cards.values()
    ]
