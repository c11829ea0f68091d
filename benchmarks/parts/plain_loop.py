"""The loop an engineer would write with Optuna, transformers' Trainer and peft.

Texts are tokenised once a study and padded to the longest of their batch; each fold
loads the encoder from disk, freezes or wraps what the Config says, trains for the
Config's steps with validation after each epoch, and predicts its held-out part.
Nothing is shared with the code that is measured against it but the contrastive loss
and the balanced batches (PyTorch has neither).
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import optuna
import torch
import transformers
from parts.spent import Spent
from peft import LoraConfig, get_peft_model
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    AutoTokenizer,
    BertModel,
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.weight_cache import Located
from fewshot_automl.space import Value
from fewshot_automl.training.batches import balanced
from fewshot_automl.training.losses import supervised_contrastive

PROBE_EPOCHS = 20
PROBE_BATCH = 32
EVAL_BATCH = 64
MAX_TOKENS = 256
OPTIONS = {
    "method": ("probe", "lora", "partial_freeze", "contrastive"),
    "schedule": ("constant", "linear", "cosine", "one_cycle"),
}
"""Of the categorical parameters."""

Params = dict[str, Value]


def quiet() -> None:
    """Keep the libraries from talking."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("transformers").setLevel(logging.ERROR)


def write_checkpoint(card: Card, located: Located, folder: Path) -> None:
    """Make a folder that `from_pretrained` reads: configuration, weights, tokenizer."""
    folder.mkdir(parents=True)
    config = {"architectures": ["BertModel"], **card.config}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for file in located.folder.iterdir():
        if file.name.startswith(("model", "tokenizer", "special")):
            (folder / file.name).symlink_to(file)


class Classifier(nn.Module):
    """An encoder, the mean over its tokens, and a linear head if there are classes."""

    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.config = encoder.config
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, classes) if classes else nn.Identity()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return logits, or embeddings where there is no head, and the loss."""
        hidden = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        real = attention_mask[..., None].to(hidden.dtype)
        logits = self.head(self.dropout((hidden * real).sum(1) / real.sum(1)))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class TimedTrainer(Trainer):
    """A Trainer that knows how long it validated."""

    validating: Spent

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """Evaluate as always."""
        with self.validating:
            return super().evaluate(*arguments, **named)


class BalancedBatches:
    """Batches with as many of one class as of another; an epoch sees n examples."""

    def __init__(self, labels: np.ndarray, size: int, seed: int) -> None:
        self._batches = balanced(labels, seed)(size, 0)
        self._count = max(1, round(len(labels) / size))

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        """Yield an epoch."""
        return (next(self._batches).tolist() for _ in range(self._count))


class ContrastiveTrainer(TimedTrainer):
    """Trains the encoder alone, by the supervised contrastive loss."""

    temperature: float
    batches: BalancedBatches

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return balanced batches."""
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=self.batches,  # type: ignore[arg-type]
            collate_fn=self.data_collator,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss of a batch's embeddings."""
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = supervised_contrastive(outputs.logits, labels, self.temperature)
        return (loss, outputs) if return_outputs else loss


class PlainStudy:
    """Runs Configs through Optuna's ask and tell, each cross-validated by Trainers."""

    def __init__(
        self,
        checkpoint: Path,
        texts: list[str],
        labels: np.ndarray,
        classes: int,
        folds: list[tuple[np.ndarray, np.ndarray]],
        seed: int,
        work: Path,
    ) -> None:
        self._checkpoint = checkpoint
        self._labels = labels
        self._classes = classes
        self._folds = folds
        self._seed = seed
        self._work = work
        self._tokenizer = AutoTokenizer.from_pretrained(str(checkpoint))
        self._data = self._tokenised(texts, labels)
        self._study = optuna.create_study(direction="maximize")

    def trial(self, params: Params) -> tuple[float, Spent, Spent]:
        """Return the cross-validated accuracy, the time, and that for validation."""
        validating = Spent()
        with Spent() as spent:
            self._study.enqueue_trial(params)
            trial = self._study.ask(_distributions(params))
            right = 0
            for train, held_out in self._folds:
                predicted = self._fit(trial.params, train, held_out, validating)
                right += int((predicted == self._labels[held_out]).sum())
            score = right / sum(len(held_out) for _, held_out in self._folds)
            self._study.tell(trial, score)
        return score, spent, validating

    def refit(self, params: Params, texts: list[str], labels: np.ndarray) -> float:
        """Return the test accuracy of a Config fitted to all examples."""
        everything = np.arange(len(self._labels))
        tested = self._tokenised(texts, labels)
        predicted = self._fit(params, everything, tested, None)
        return float((predicted == labels).mean())

    def _tokenised(self, texts: list[str], labels: np.ndarray) -> datasets.Dataset:
        raw = datasets.Dataset.from_dict({"text": texts, "label": labels.tolist()})
        return raw.map(
            lambda batch: self._tokenizer(
                batch["text"],
                truncation=True,
                max_length=MAX_TOKENS,
                return_token_type_ids=False,
            ),
            batched=True,
            remove_columns=["text"],
        )

    def _fit(
        self,
        params: Params,
        train: np.ndarray,
        held_out: np.ndarray | datasets.Dataset,
        validating: Spent | None,
    ) -> np.ndarray:
        """Train on some examples; return the classes predicted for others.

        Args:
            params: The Config.
            train: Positions to train on.
            held_out: Positions to predict, or a dataset of its own.
            validating: Sums up the time of the validation after each epoch; None
                trains without one, as for the final model.
        """
        torch.manual_seed(self._seed)
        chosen = self._data.select(train)
        judged = (
            self._data.select(held_out)
            if isinstance(held_out, np.ndarray)
            else held_out
        )
        is_contrastive = params["method"] == "contrastive"
        model = self._model(params)
        arguments = self._arguments(params, validating is not None)
        kind = ContrastiveTrainer if is_contrastive else TimedTrainer
        steps = arguments.max_steps
        if steps < 0:
            steps = PROBE_EPOCHS * -(-len(train) // PROBE_BATCH)
        trainer = kind(
            model=model,
            args=arguments,
            train_dataset=chosen,
            eval_dataset=judged if validating is not None else None,
            data_collator=DataCollatorWithPadding(self._tokenizer),
            processing_class=self._tokenizer,
            optimizers=_optimizers(model, params, steps),
            compute_metrics=_accuracy,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.validating = validating or Spent()
        if isinstance(trainer, ContrastiveTrainer):
            trainer.temperature = float(params["temperature"])
            trainer.batches = BalancedBatches(
                self._labels[train], int(params["batch_size"]), self._seed
            )
        trainer.train()
        outputs = trainer.predict(judged).predictions
        if not is_contrastive:
            return np.asarray(outputs).argmax(axis=1)
        head = LogisticRegression(max_iter=1000)
        head.fit(trainer.predict(chosen).predictions, self._labels[train])
        return np.asarray(head.predict(outputs))

    def _model(self, params: Params) -> Classifier:
        encoder = BertModel.from_pretrained(
            str(self._checkpoint), add_pooling_layer=False
        )
        method = params["method"]
        depth, width = encoder.config.num_hidden_layers, encoder.config.hidden_size
        first = depth
        if method != "probe":
            first = min(round(float(params["frozen_fraction"]) * depth), depth - 1)
        if method == "lora":
            encoder = get_peft_model(
                encoder,
                LoraConfig(
                    r=int(params["rank"]),
                    lora_alpha=int(params["rank"]) * float(params["alpha_ratio"]),
                    lora_dropout=float(params["lora_dropout"]),
                    target_modules=["query", "value"],
                    layers_to_transform=list(range(first, depth)),
                    layers_pattern="layer",
                ),
            )
        else:
            encoder.requires_grad_(False)
            encoder.encoder.layer[first:].requires_grad_(True)
        return Classifier(
            encoder, width, 0 if method == "contrastive" else self._classes
        )

    def _arguments(self, params: Params, is_validated: bool) -> TrainingArguments:
        is_probe = params["method"] == "probe"
        return TrainingArguments(
            output_dir=str(self._work),
            max_steps=-1 if is_probe else int(params["steps"]),
            num_train_epochs=PROBE_EPOCHS,
            per_device_train_batch_size=(
                PROBE_BATCH if is_probe else int(params["batch_size"])
            ),
            per_device_eval_batch_size=EVAL_BATCH,
            label_smoothing_factor=float(params.get("label_smoothing", 0.0)),
            eval_strategy="epoch" if is_validated else "no",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=torch.cuda.is_available(),
            use_cpu=not torch.cuda.is_available(),
            seed=self._seed,
        )


def _optimizers(
    model: Classifier, params: Params, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW with a rate for the head and one for the rest, and its schedule."""
    rate = float(
        params.get("lora_learning_rate", params.get("learning_rate", float("nan")))
    )
    trained = [p for p in model.encoder.parameters() if p.requires_grad]
    groups = [{"params": trained, "lr": rate}] if trained else []
    heads = list(model.head.parameters())
    if heads:
        head_rate = float(params.get("head_learning_rate", rate))
        groups.append({"params": heads, "lr": head_rate})
    optimizer = torch.optim.AdamW(
        groups, weight_decay=float(params["weight_decay"]), fused=True
    )
    name = str(params.get("schedule", "linear"))
    warmup = float(params.get("warmup_fraction", 0.0))
    if name == "one_cycle":
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=min(max(warmup, 2 / steps), 0.9),
            cycle_momentum=False,
        )
    return optimizer, transformers.get_scheduler(
        "constant_with_warmup" if name == "constant" else name,
        optimizer,
        num_warmup_steps=int(warmup * steps),
        num_training_steps=steps,
    )


def _accuracy(prediction: Any) -> dict[str, float]:
    predicted = np.asarray(prediction.predictions).argmax(axis=-1)
    return {"accuracy": float((predicted == prediction.label_ids).mean())}


def _distributions(params: Params) -> dict[str, Any]:
    """Return the search space of these parameters, wide enough for every Config."""
    made: dict[str, Any] = {}
    for name, value in params.items():
        if name in OPTIONS:
            made[name] = optuna.distributions.CategoricalDistribution(OPTIONS[name])
        elif isinstance(value, int):
            made[name] = optuna.distributions.IntDistribution(1, 1024)
        else:
            made[name] = optuna.distributions.FloatDistribution(0.0, 16.0)
    return made
