"""What is printed of a fit's limits and front."""

import io

import pytest
from rich.console import Console

from fewshot_automl.cli.results import show_front, show_limits

LATENCY = {"name": "latency_ms", "most": 5.0, "least": None}
RECALL = {"name": "worst_recall", "most": None, "least": 0.5}


def summary(latency, recall, keeping):
    return {
        "limits": [
            {**LATENCY, "value": latency, "is_kept": latency <= 5},
            {**RECALL, "value": recall, "is_kept": recall >= 0.5},
        ],
        "is_feasible": latency <= 5 and recall >= 0.5,
        "keeping": keeping,
        "trials": {"done": 3},
        "winner": {"number": 1},
        "score": {"metric": "log_loss"},
        "task": {"modality": "text", "names": ["a", "b"], "metric": "log_loss"},
        "front": [
            {
                "number": number,
                "config": {"method": "probe", "backbone": name},
                "score": score,
                "latency_ms": ms,
            }
            for number, name, score, ms in ((1, "a", -0.3, 12.0), (2, "b", -0.5, 3.0))
        ],
    }


def printed(show, values):
    console = Console(file=io.StringIO(), width=90)
    show(console, values)
    return console.file.getvalue()


def test_what_is_kept_is_said_beside_its_limit():
    text = printed(show_limits, summary(4.0, 0.6, 2))
    assert "latency 4 ms at most 5 ms kept" in " ".join(text.split())
    assert "at least 0.5" in text
    assert "BROKEN" not in text


@pytest.mark.parametrize(
    ("keeping", "words"),
    [(0, "No trial keeps all limits"), (2, "The model breaks a limit")],
)
def test_what_is_broken_cannot_be_missed(keeping, words):
    text = printed(show_limits, summary(9.0, 0.6, keeping))
    assert words in text
    assert text.count("BROKEN") == 1


def test_the_front_is_a_table_in_the_metrics_own_direction():
    lines = printed(show_front, summary(4.0, 0.6, 3)).splitlines()
    rows = [" ".join(line.split()) for line in lines if line]
    assert rows == [
        "front log_loss latency",
        "probe on a (winner) 0.300 12 ms",
        "probe on b 0.500 3 ms",
    ]


def test_nothing_is_printed_that_nobody_asked_for():
    bare = {"limits": [], "front": []}
    assert printed(show_limits, bare) == printed(show_front, bare) == ""
