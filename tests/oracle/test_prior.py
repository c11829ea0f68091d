import dataclasses
import json

import numpy as np
import pytest

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import RandomOracle
from fewshot_automl.oracle.prior import HEAD, MOST_POINTS, Past, Prior
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

TRAINED = ("partial", "lora")
WORDS = Space(
    (
        Choice(name="method", options=("probe", *TRAINED)),
        Choice(
            name="backbone",
            options=("small", "large"),
            descriptors=((16.0, 6.0), (18.0, 12.0)),
        ),
        Float(
            name="rate", low=1e-5, high=1e-2, log=True, when=(When("method", TRAINED),)
        ),
        Int(name="steps", low=10, high=40, log=True, when=(When("method", TRAINED),)),
    )
)
PIXELS = Space(
    (
        WORDS.dimensions[0],
        Choice(
            name="backbone",
            options=("net", "vit"),
            descriptors=((15.0, 8.0), (15.5, 12.0)),
        ),
        *WORDS.dimensions[2:],
    )
)


def truth(config: Config, shift: float = 0.0) -> float:
    """Return a score that is best at lora on a large backbone at 1e-3."""
    score = 0.5 + 0.1 * (config.text("backbone") in ("large", "vit"))
    if config.text("method") != "probe":
        score += 0.1 + 0.1 * (config.text("method") == "lora")
        away = np.log10(float(config["rate"])) + 3 + shift
        score += 0.05 - 0.1 * away**2 + 0.02 * np.log(float(config["steps"]) / 20)
    return float(score)


def history(space, count, seed, *, sign=1.0, shift=0.0, noise=0.01):
    generator = np.random.default_rng(seed)
    configs = RandomOracle().suggest(space, [], count, seed)
    return [
        (
            config,
            Outcome(
                status="done",
                mean=sign * truth(config, shift) + noise * generator.standard_normal(),
                standard_error=noise,
            ),
        )
        for config in configs
    ]


@pytest.fixture(scope="module")
def prior():
    return Prior.build(
        {
            "a": (WORDS, history(WORDS, 80, 1)),
            "b": (WORDS, history(WORDS, 40, 2, shift=0.3)),
            "pictures": (PIXELS, history(PIXELS, 40, 3)),
        },
        kinds={"a": "text", "b": "text", "pictures": "image"},
    )


def flipped(prior):
    return Prior(
        studies=tuple(
            dataclasses.replace(s, scores=tuple(-x for x in s.scores))
            for s in prior.studies
        )
    )


def unlike(seed, count=200, space=WORDS):
    return [config for config, _ in history(space, count, seed)]


def advised(prior, seen, configs, space=WORDS):
    return prior.advice(space, seen)(configs)


def correlation(prior, seen, configs):
    return np.corrcoef(advised(prior, seen, configs), [truth(c) for c in configs])[0, 1]


def test_a_prior_knows_what_was_good_before_the_first_trial(prior):
    configs = unlike(7)
    assert correlation(prior, [], configs) > 0.8
    first = configs[int(np.argmax(advised(prior, [], configs)))]
    assert np.mean([truth(c) < truth(first) for c in configs]) > 0.85


def test_a_study_is_kept_in_few_points_that_predict_as_all_do():
    seen = history(WORDS, 150, 4)
    past = Past.of("long", WORDS, seen)
    assert len(past.configs) == MOST_POINTS
    assert past.trials == 150
    said = past.predict(WORDS, [config for config, _ in seen])
    assert np.corrcoef(said, [truth(config) for config, _ in seen])[0, 1] > 0.9
    best = max(seen, key=lambda pair: pair[1].mean)[0]
    assert min(abs(c.get("rate", 1.0) / best["rate"] - 1) for c in past.configs) < 1e-3


@pytest.mark.parametrize("seed", range(4))
def test_a_wrong_prior_loses_its_voice_within_a_few_trials(prior, seed):
    wrong, seen = flipped(prior.about("text")), history(WORDS, 12, 20 + seed)
    voice = [wrong.weights(WORDS, seen[:n]).sum() for n in range(13)]
    assert voice[0] == pytest.approx(0.75)
    assert voice[8] < 0.3
    assert voice[12] < 0.1
    right = [prior.about("text").weights(WORDS, seen[:n]).sum() for n in range(13)]
    assert min(right) > 0.5
    assert right[12] > 0.9


def test_the_study_that_ranks_like_the_new_one_counts_most():
    prior = Prior.build(
        {
            "like": (WORDS, history(WORDS, 60, 1)),
            "unlike": (WORDS, history(WORDS, 60, 1, shift=-1.5)),
        }
    )
    assert prior.weights(WORDS, []).tolist() == pytest.approx([0.375, 0.375])
    like, other = prior.weights(WORDS, history(WORDS, 15, 9))
    assert like > 3 * other


def test_an_unknown_backbone_is_placed_by_its_descriptors(prior):
    space = Space(
        (
            WORDS.dimensions[0],
            Choice(
                name="backbone",
                options=("small", "big", "tiny", "odd"),
                descriptors=((16.0, 6.0), (18.1, 12.0), (15.9, 6.0), (90.0, 99.0)),
            ),
            *WORDS.dimensions[2:],
        )
    )
    lora = {"method": "lora", "rate": 1e-3, "steps": 30}
    said = {
        name: advised(prior, [], [Config.of({**lora, "backbone": name})], space)[0]
        for name in ("small", "big", "tiny", "odd")
    }
    assert said["big"] > said["tiny"]
    assert abs(said["odd"]) < 0.01


@pytest.mark.parametrize("kept", [1, 0])
def test_trials_of_a_study_that_was_narrowed_since_are_no_error(prior, kept):
    one = {"options": ("net",), "descriptors": ((15.0, 8.0),)}
    net = dataclasses.replace(PIXELS["backbone"], **one)
    method, _, *others = PIXELS.dimensions
    narrowed = Space((method, *[net][:kept], *others))
    said = advised(prior, history(PIXELS, 4, 0), unlike(1, 3, PIXELS), narrowed)
    assert np.isfinite(said).all()


def test_no_study_advises_nothing():
    configs = unlike(1, 3)
    assert advised(Prior(), history(WORDS, 3, 1), configs).tolist() == [0.0] * 3
    assert advised(Prior(), [], []).shape == (0,)


def test_a_prior_survives_its_file(prior, tmp_path):
    path = tmp_path / "prior.json"
    prior.write(path)
    again = Prior.read(path)
    assert again == prior
    assert again.key == prior.key
    assert len(path.read_text().splitlines()) == 2 + len(prior.studies)
    configs = unlike(3)
    assert (advised(again, [], configs) == advised(prior, [], configs)).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON file"),
        ("[]", "A prior must be"),
        ('{"format": "other"}', "A prior must be"),
        ('{"format": "fewshot_automl prior", "version": 9}', "A prior must be"),
        ('{"format": "fewshot_automl prior", "version": 1}', "with studies"),
        (
            json.dumps({**HEAD, "studies": [{"a": 1}]}),
            "as `fewshot prior build` writes it",
        ),
    ],
)
def test_a_bad_file_is_told_with_its_name(tmp_path, content, words):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        Prior.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"scores": [1.0]},
        {"points": [[None]]},
        {"space": [{"kind": "Float"}]},
        {"scores": None},
    ],
)
def test_a_study_that_contradicts_itself_is_refused(prior, change):
    values = json.loads(json.dumps(prior.to_json()))
    values["studies"][0].update(change)
    with pytest.raises(UserError):
        Prior.from_json(values)


def test_the_shipped_prior_can_be_read():
    shipped = Prior.default()
    assert {study.kind for study in shipped.studies} <= {"text", "image"}
    assert shipped is Prior.default()


def test_equal_or_few_scores_and_equal_names_are_refused(prior):
    for seen in (
        history(WORDS, 4, 1),
        [(config, Outcome(status="done", mean=0.5)) for config in unlike(1, 10)],
    ):
        with pytest.raises(UserError, match="Leave it out"):
            Past.of("short", WORDS, seen)
    with pytest.raises(UserError, match="Name each study once"):
        Prior(studies=(prior.studies[0], prior.studies[0]))
