"""SetFit as an entrant of `fewshot bench`; needs `pip install setfit` in its Python.

Trains on the sentence encoder in a folder (`whole_fits.py` writes it from the weights
that fewshot uses), as its README does, with at most so many steps as fit the budget:
a pass over the pairs is stopped when 60 % of the budget are spent.

Example:
    python with_setfit.py train.csv test.csv out.csv 60 20 ENCODER
"""

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

STARTED = time.monotonic()
TRAINING_SHARE = 0.6


def main() -> None:
    """Read, train, predict, write."""
    train, test, out, budget, seed, encoder = sys.argv[1:7]
    import pandas as pd
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, models
    from setfit import SetFitModel, Trainer, TrainingArguments
    from sklearn.linear_model import LogisticRegression
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        """Stops the training of the encoder when its share of the budget is spent."""

        def on_step_end(self, *given: Any, **more: Any) -> None:
            """Ask for the end once it is time."""
            spent = time.monotonic() - STARTED
            given[2].should_training_stop = spent > TRAINING_SHARE * float(budget)

    settings = json.loads((Path(encoder) / "fewshot.json").read_text("utf-8"))
    words = models.Transformer(encoder, max_seq_length=settings["max_tokens"])
    pooling = models.Pooling(words.get_word_embedding_dimension(), "mean")
    parts = [words, pooling, models.Normalize()]
    model = SetFitModel(
        model_body=SentenceTransformer(modules=parts, device="cpu"),
        model_head=LogisticRegression(max_iter=1000),
    )
    read = {"dtype": str, "keep_default_na": False}  # labels such as 01 and NA
    rows, tested = pd.read_csv(train, **read), pd.read_csv(test, **read)
    data = Dataset.from_dict(
        {"text": rows["input"].astype(str), "label": rows["label"].astype(str)}
    )
    arguments = TrainingArguments(
        batch_size=16,
        num_epochs=1,
        seed=int(seed),
        save_strategy="no",
        report_to="none",
    )
    trainer = Trainer(
        model=model, args=arguments, train_dataset=data, callbacks=[Clock()]
    )
    trainer.train()
    fitted = time.monotonic()
    proba = model.predict_proba(tested["input"].astype(str).tolist(), as_numpy=True)
    names = [str(name) for name in model.model_head.classes_]
    answer = pd.DataFrame(proba, columns=[f"proba_{name}" for name in names])
    answer.insert(0, "prediction", [names[i] for i in proba.argmax(axis=1)])
    answer.to_csv(out, index=False)
    told = {
        "fit_seconds": round(fitted - STARTED, 2),
        "predict_seconds": round(time.monotonic() - fitted, 2),
        "members": 1,
        "version": f"setfit {version('setfit')}",
    }
    Path(out).with_suffix(".json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()
