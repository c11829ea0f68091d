"""MODEL_CARD.md: what a model is, how good, and where it ends, for people."""

from collections.abc import Mapping
from typing import Any

from fewshot_automl.export.formats import Format
from fewshot_automl.export.graph import Graph
from fewshot_automl.export.verify import Proof
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
    from jinja2 import Environment, PackageLoader

    page = Environment(  # noqa: S701  Markdown
        loader=PackageLoader("fewshot_automl.export", ""), keep_trailing_newline=True
    ).get_template("card.md.j2")
    return page.render(
        task=task,
        study=study,
        abstains=task.costs is not None and task.costs.limit is not None,
        feeds=graph.feeds,
        cards={each.card.id: each.card for each in graph.backbones}.values(),
        row=row,
        proof=proof,
        quantize=quantize,
    )
