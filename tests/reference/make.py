"""Write the study and the model that later versions must be able to read.

What is there is kept: each format has a folder of its own, and a new one is made when
`fewshot_automl.formats.FORMAT` rises, not before.

Example:
    PYTHONPATH=. python tests/reference/make.py
"""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from fewshot_automl import fit
from fewshot_automl.backbones.card import read_card
from fewshot_automl.formats import FORMAT

HERE = Path(__file__).parent
WORDS = {"art": ("good", "film", "bad", "who"), "land": ("river", "city", "where")}
NEW = ["good film who", "where is the river", "a bad city", ""]
UNREAD = ("report.html", "report.md", "study.journal.guard")
"""Pages for people, and a lock; no command needs them."""


def texts() -> pd.DataFrame:
    """Return 24 labelled texts of two classes."""
    rng = np.random.default_rng(0)
    rows = [
        (" ".join(rng.choice(words, 4)) + f" {n}", label)
        for label, words in WORDS.items()
        for n in range(12)
    ]
    return pd.DataFrame(rows, columns=["text", "label"])


def main() -> None:
    """Fit on a tiny backbone, and keep what it says of new texts beside the study."""
    sys.path.insert(0, str(HERE.parent))
    from conftest import TINY_ZOO, write_weights

    home = HERE / f"format-{FORMAT}"
    home.mkdir()
    texts().to_csv(home / "texts.csv", index=False)
    card = read_card(TINY_ZOO / "text" / "tiny-bert.toml")
    with tempfile.TemporaryDirectory() as name:
        shutil.copy(TINY_ZOO / "text" / "tiny-bert.toml", name)
        write_weights(card, Path(name) / card.id)
        os.environ |= {"FEWSHOT_ZOO_PATH": name, "FEWSHOT_CACHE": f"{name}/cache"}
        few = {"budget": "none", "trials": 5, "prior": "none"}
        few |= {"methods": ["tfidf", "probe", "lora"], "backbones": [card.id]}
        # In memory, so that no path of this machine is written down.
        result = fit(texts(), target="label", out=home / "study", **few)
        said = {"texts": NEW, "outputs": result.predictor.predict_proba(NEW).tolist()}
    for page in UNREAD:
        (home / "study" / page).unlink(missing_ok=True)
    (home / "said.json").write_text(json.dumps(said, indent=2) + "\n", "utf-8")
    for path in filter(Path.is_file, home.rglob("*")):
        for word in (str(HERE.parents[1]), name, os.uname().nodename):
            if word.encode() in path.read_bytes():
                raise SystemExit(f"{path} must not name {word!r}.")


if __name__ == "__main__":
    main()
