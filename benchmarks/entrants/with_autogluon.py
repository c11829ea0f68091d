"""AutoGluon's `few_shot` preset for texts and images as an entrant of `fewshot bench`.

Needs `pip install autogluon.multimodal` in its Python, and its weights.

Example:
    python with_autogluon.py train.csv test.csv out.csv 60
"""

import sys


def main() -> None:
    """Read, train, predict, write."""
    train, test, out, budget = sys.argv[1:5]
    import pandas as pd
    from autogluon.multimodal import MultiModalPredictor

    read = {"dtype": str, "keep_default_na": False}  # labels such as 01 and NA
    rows, tested = pd.read_csv(train, **read), pd.read_csv(test, **read)
    model = MultiModalPredictor(label="label", presets="few_shot", path=f"{out}.model")
    model.fit(rows, time_limit=0.9 * float(budget))
    proba = model.predict_proba(tested)
    answer = proba.add_prefix("proba_")
    answer.insert(0, "prediction", proba.idxmax(axis=1))
    answer.to_csv(out, index=False)


if __name__ == "__main__":
    main()
