"""Tuned logistic probes on frozen embedded backbones, as entrants of `fewshot bench`.

`probe` is on the default backbone, `probe-cv` on that of the least cross-validated log
loss, `probes-mean` is the average of those on all backbones at hand.

Example:
    python benchmarks/entrants/probes.py probe-cv train.csv test.csv out.csv 60 20
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.data import Columns, read, read_inputs
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import content_hashes
from fewshot_automl.places import cache_folder
from fewshot_automl.space import Config
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial import Problem, TrialContext, evaluate, refit

DEFAULTS = {"text": "minilm-l6", "image": "mobilenetv2-100"}
PLAIN = {"method": "probe", "head": "logistic", "scaling": "unit"}
FOLDS, REPEATS = 4, 5


def context_of(train: Path, modality: str, seed: int) -> tuple[TrialContext, Columns]:
    """Return the drawn examples with all backbones at hand, and their columns."""
    data = read(str(train), target="label", inputs={modality: "input"})
    keys = content_hashes(data.examples.inputs)
    folds = choose_folds(
        data.task.rules.strata(data.examples.targets),
        groups=keys,
        seed=seed,
        max_folds=FOLDS,
        max_repeats=REPEATS,
    )
    zoo = Zoo.shipped()
    problem = Problem(
        task=data.task,
        inputs=data.examples.inputs,
        targets=data.examples.targets,
        folds=folds,
        keys=keys,
    )
    return TrialContext(
        problem=problem,
        cards=tuple(card for card in zoo.cards(modality) if zoo.is_at_hand(card)),
        store=FeatureStore(cache_folder() / "features"),
        placement=choose_placement(),
        seed=seed,
    ), data.columns


def chosen(name: str, context: TrialContext) -> list[Config]:
    """Return the Configs that a row averages."""
    every = [Config.of({**PLAIN, "backbone": card.id}) for card in context.cards]
    if name == "probe-cv":
        losses = [evaluate(context, one).measures["log_loss"] for one in every]
        return [every[int(np.argmin(losses))]]
    if name == "probe":
        modality = context.problem.task.modality
        return [Config.of({**PLAIN, "backbone": DEFAULTS[modality]})]
    return every


def main() -> None:
    """Choose, fit, average the predictions, write them."""
    name, train, test, out, _, seed = sys.argv[1:]
    facts = json.loads(Path(train).with_name("task.json").read_text("utf-8"))
    context, columns = context_of(Path(train), facts["modality"], int(seed))
    task = context.problem.task
    tested = read_inputs(test, task, columns).inputs
    configs = chosen(name, context)
    rows = []
    for config in configs:
        fitted = refit(context, config)
        backbone = context.backbone(config.text("backbone"))
        encoder = Encoder(backbone=backbone, store=context.store)
        rows.append(fitted.outputs(Encodings(inputs=tested, encoder=encoder)))
    proba = np.mean(rows, axis=0)
    answer = {"prediction": task.rules.decode(proba), **task.rules.columns(proba)}
    pd.DataFrame(answer).to_csv(out, index=False)
    names = " ".join(config.text("backbone") for config in configs)
    told = {"members": len(configs), "winner": f"probe {names}"}
    Path(out).with_suffix(".json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()
