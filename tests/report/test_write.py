import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from fewshot_automl.ledger import write_outputs

SECTIONS = ("expect", "beside", "classes", "search", "data", "use", "repeat")
VOID = {"meta", "br", "link", "input", "img", "hr"}


class Page(HTMLParser):
    """Collects ids, links and text, and checks that every tag is closed."""

    def __init__(self, source):
        super().__init__()
        self.open, self.ids, self.links, self.text, self.tags = [], [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [values[k] for k in ("href", "src", "xlink:href") if k in values]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def checked(source):
    page = Page(source)
    assert [i for i in page.ids if i in SECTIONS] == list(SECTIONS)
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"\b(nan|NaN|inf|None|Undefined)\b", page.words)
    assert not re.search(r'="[^"]*\b(nan|inf|None)\b[^"]*"', source)
    return page


HWU = tuple(f"scenario_{i}_with_quite_a_long_name" for i in range(64))
CASES = {
    "six classes": (("a", "b", "c", "d", "e", "f"), {}),
    "binary": (("ham", "spam"), {"per_class": 20}),
    "64 classes": (HWU, {"per_class": 8, "trials": 30}),
    "one trial": (("yes", "no"), {"trials": 1}),
    "all failed but one": (("yes", "no"), {"failed": (0, 1, 3, 4, 5)}),
    "log loss": (("a", "b", "c"), {"metric": "log_loss", "trials": 12}),
    "kappa": (("a", "b", "c"), {"metric": "cohen_kappa"}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("with_test", [True, False])
def test_every_kind_of_study_has_a_whole_page(make_study, case, with_test):
    names, options = CASES[case]
    study = make_study(names, **options)
    if not with_test:
        study.summary["test"] = None
    page = checked(study.write())
    assert ("On your test data" in page.words) == (with_test and case not in ("kappa",))
    assert "95 % interval" in page.words


def test_what_users_wrote_is_text_and_never_markup(make_study):
    evil = '<script>alert("1")</script>'
    study = make_study((evil, "'><img src=x onerror=y>", "{{ 7 * 7 }}"))
    study.summary["data"] = evil
    study.summary["findings"] = [f"warning: {evil}"]
    study.summary["origins"] = [evil] * len(study.summary["labels"])
    study.summary["inferred"] = [evil]
    study.inputs = [evil] * len(study.inputs)
    source = study.write()
    page = checked(source)
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert evil in page.words
    assert "49" not in page.words.split("{{ 7 * 7 }}")[0][-3:]
    assert "{{ 7 * 7 }}" in page.words


def test_says_share_of_new_examples_and_interval_in_words(make_study):
    study = make_study(("a", "b"), per_class=40)
    numbers = {"raw": 0.9, "corrected": 0.85, "expected": 0.874}
    study.summary["score"] |= {**numbers, "low": 0.8, "high": 0.92}
    words = checked(study.write()).words
    assert "Expect about 87 of 100 new examples" in words
    assert "Anything from 80 to 92 of 100" in words
    assert "the difference, 0.050, was taken off" in words
    assert "same source as the labelled ones" in words


def test_one_trial_claims_no_luck(make_study):
    study = make_study(("a", "b"), trials=1)
    study.summary["score"]["corrected"] = study.summary["score"]["raw"]
    words = checked(study.write()).words
    assert "nothing was picked" in words


def test_warns_if_the_model_may_be_no_better_than_a_constant_answer(make_study):
    study = make_study(("a", "b"))
    assert "Do not rely on this model" not in study.write()
    study.summary["score"]["against_majority"] = "unclear"
    words = checked(study.write()).words
    assert "It cannot be told whether it is better than always giving" in words
    study.summary["score"]["against_majority"] = "not better"
    assert "It is not better than always giving" in checked(study.write()).words


def test_failed_trials_are_listed_with_their_reasons(make_study):
    study = make_study(("a", "b"), failed=(1, 4))
    words = checked(study.write()).words
    assert "failed: Reason 1: a < b & c" in words
    assert "failed: Reason 4: a < b & c" in words


def test_without_predictions_the_rest_is_still_written(make_study):
    study = make_study(("a", "b"))
    for path in (study.folder / "predictions").iterdir():
        path.unlink()
    words = checked(study.write()).words
    assert "Nothing can be said class by class." in words
    assert "must be a whole safetensors file" in words


def test_labels_of_other_data_are_refused_not_used(make_study):
    study = make_study(("a", "b"))
    study.summary["labels"].pop()
    assert "Predictions must be of 11 examples" in checked(study.write()).words


def test_missing_folds_do_not_count(make_study):
    study = make_study(("a", "b"))
    proba = np.full((1, 12, 2), np.nan)
    proba[0, :4] = [0.9, 0.1]
    place = study.folder / study.summary["predictions"]
    write_outputs(place, proba.astype(np.float32))
    assert "had not seen (4 examples)" in checked(study.write()).words


def test_what_is_needed_to_repeat_a_study_is_there(make_study):
    words = checked(make_study(("a", "b")).write()).words
    assert "torch 9.9.9" in words
    assert "temperature of 1.50" in words
    assert (
        "fewshot fit 'my reviews.csv' --test DATA --target topic --budget 60" in words
    )


def test_only_the_script_we_wrote_may_run(make_study):
    source = make_study(("a", "b")).write()
    assert "default-src 'none'" in source
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/]{43}='", source)
    assert "http://" not in source.replace("http://www.w3.org", "")
    assert "https://" not in source


def numbers(page):
    """Return every number with three decimals that is shown."""
    return set(re.findall(r"(?<![\d.])\d\.\d{3}(?![\d])", page.words))


def test_a_model_has_one_number_for_one_thing_wherever_it_stands(make_study):
    study = make_study(("a", "b", "c"), per_class=20)
    winner = study.summary["winner"]["number"]
    config, outcome = study.history[winner]
    study.history[winner] = (config, replace(outcome, mean=0.9167))
    study.summary["score"] |= {"raw": 0.9161, "expected": 0.8882}  # as pooled
    source = study.write()
    page = checked(source)
    chart = page.words.split("Next to simpler models")[2].split("Class by class")[0]
    assert f"The model {config['method']} on minilm-l6 0.917" in chart
    assert "0.888" not in chart
    assert {"0.917"} == {n for n in numbers(page) if n in ("0.916", "0.917", "0.888")}
    assert page.words.count("0.89") >= 2  # what to expect


def test_the_average_of_trials_is_no_trial(make_study):
    study = make_study(("a", "b"), per_class=20)
    study.summary["members"].append(study.summary["members"][0] | {"number": 2})
    study.summary["score"] |= {"raw": 0.961, "expected": 0.9}
    scores = {"accuracy": [0.961, 0.95], "log_loss": [0.2, 0.25]}
    beside = {"number": 4, "scores": scores, "latency_ms": [31.0, 12.0]}
    study.summary["beside_best"] = beside
    words = checked(study.write()).words
    assert "The model the average of trials 4, 2 0.961" in words
    assert "averages trials by weight: 4 (1.00), 2 (1.00)." in words
    assert "log loss 0.200 (alone 0.250), 31 ms an example (alone 12 ms)" in words


def test_examples_are_shown_not_only_their_rows(make_study):
    study = make_study(("a", "b"), per_class=20)
    proba = np.full((1, 40, 2), [0.8, 0.2], dtype=np.float32)
    write_outputs(study.folder / study.summary["predictions"], proba)
    words = checked(study.write()).words
    assert "the text of row 22 Labelled b Answered a 80 % sure" in words
    assert "the text of row 2 a 80 % sure" in words


def test_images_are_shown_small_and_inside_the_page(make_study, tmp_path):
    study = make_study(("a", "b"), per_class=20)
    study.summary["task"]["modality"] = "image"
    proba = np.full((1, 40, 2), [0.8, 0.2], dtype=np.float32)
    write_outputs(study.folder / study.summary["predictions"], proba)
    noise = np.random.default_rng(0).integers(0, 255, (900, 600, 3), dtype=np.uint8)
    study.inputs = [tmp_path / "gone.jpg" if i == 20 else noise for i in range(40)]
    source = study.write()
    shown = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)"', source)
    assert len(shown) == 14 + 1  # of 15 mistakes one is gone; one right answer
    with Image.open(io.BytesIO(base64.b64decode(shown[0]))) as picture:
        assert max(picture.size) == 64
    assert "Labelled b" in checked(source.replace("data:", "#")).words


@pytest.mark.parametrize(("labels", "is_drawn"), [(16, False), (60, True)])
def test_few_labels_make_no_reliability_drawing(make_study, labels, is_drawn):
    source = make_study(("a", "b"), per_class=labels // 2).write()
    assert ("Reliability diagram" in source) == is_drawn
    assert ("the reliability drawing is left out" in source) != is_drawn


def test_a_download_says_how_large_it_is(make_study):
    words = checked(make_study(("a", "b")).write()).words
    assert "a download of about 132.0 MB, all 2 of 568.0 MB" in words
    assert "fewshot zoo get bge-small" in words
    assert "bge-base (436.0 MB)" in words


def test_the_metric_that_was_chosen_leads_the_test_line(make_study):
    study = make_study(("a", "b"), metric="cohen_kappa")
    study.summary["test"]["cohen_kappa"] = 0.612
    words = checked(study.write()).words
    assert "Cohen kappa 0.612 on 200 examples" in words
    assert "Also measured there: accuracy 0.800" in words
