"""`fewshot bench` on a tiny suite: runs, failures, resuming, figures, plots."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewshot_automl.bench import (
    Run,
    harness,
    load_suite,
    plots,
    read_results,
    run,
    summarise,
)
from fewshot_automl.bench.entrant import entrant_named
from fewshot_automl.bench.suite import draw
from fewshot_automl.cli.entry import run as command
from fewshot_automl.errors import UserError

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks.md"
CARD = 'name = "{0}"\ndata = "{0}"\nmodality = "{1}"\nlicense = "CC0-1.0"\n'
ONE_SIDED = """
import csv, json, sys
train, test = (list(csv.reader(open(name))) for name in sys.argv[1:3])
assert train[0] == ["input", "label"] and test[0] == ["input"]
print("prediction", *["good"] * (len(test) - 1), sep="\\n", file=open(sys.argv[3], "w"))
told = {"expected": 0.6, "low": 0.4, "high": 0.9, "fit_seconds": 0.001, "more": 1}
json.dump(told, open(sys.argv[3].replace(".csv", ".json"), "w"))
"""
PLACES = "{train} {test} {out}"


@pytest.fixture
def suite(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "none"))
    words = {"good": ("fine", "lovely", "great"), "bad": ("poor", "awful", "dull")}
    rows = [
        {"text": f"a {word} {noun}", "label": label}
        for noun in ("film", "town", "meal", "song")
        for label, several in words.items()
        for word in several
    ]
    for name in ("films", "towns"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for part, chosen in (("train", rows[:18]), ("test", rows[18:])):
            frame = pd.DataFrame(chosen)
            frame.to_csv(tmp_path / "data" / name / f"{part}.csv", index=False)
    (tmp_path / "suite").mkdir()
    for name in ("films", "towns", "absent"):
        (tmp_path / "suite" / f"{name}.toml").write_text(CARD.format(name, "text"))
    return load_suite(tmp_path / "suite", data=tmp_path / "data")


def script(folder, name, text):
    (folder / f"{name}.py").write_text(text)
    return f"{name}={{python}} {folder / name}.py {PLACES}"


def test_a_strangers_entrant_runs_beside_ours(suite, tmp_path, monkeypatch):
    (page,) = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    stranger = script(tmp_path, "tfidf", page)
    cheap = "cheap=ours: --methods tfidf,majority --trials 2"
    monkeypatch.chdir(tmp_path)
    words = "bench suite --data data --tasks films --shots 4 --draws 3 --out r.jsonl"
    added = [
        "--budgets",
        "30min",
        "--json",
        "--entrants",
        "",
        "--entrant",
        stranger,
        "--entrant",
        cheap,
    ]
    assert command([*words.split(), *added]) == 0
    theirs, ours = read_results("r.jsonl")
    assert (theirs.reason, ours.reason) == (None, None)
    assert theirs.accuracy == 1.0
    assert 0 < theirs.log_loss < 1
    assert ours.low <= ours.expected <= ours.high
    assert ours.winner == "tfidf"
    assert 0 < ours.fit_seconds < ours.seconds
    assert ours.log_loss is not None
    assert ours.log_loss_before is not None


def test_runs_are_lines_failures_too_and_are_not_made_again(
    suite, tmp_path, monkeypatch
):
    out, said = tmp_path / "r.jsonl", []
    asked = {
        "sided": ONE_SIDED,
        "broken": "import sys; sys.exit('no such luck')",
        "alien": ONE_SIDED.replace('["good"]', '["ugly"]'),
    }
    entrants = [entrant_named(script(tmp_path, *row)) for row in asked.items()]
    runs = run(suite, entrants, out=out, shots=[2], draws=[1], say=said.append)
    assert said[0].startswith("Left out task absent: no data at ")
    found = {r.entrant: r for r in runs if r.task == "towns"}
    assert len(runs) == 6
    assert {r.key: r for r in read_results(out)} == {r.key: r for r in runs}
    assert (found["sided"].value, found["sided"].expected) == (0.5, 0.6)
    assert found["sided"].fit_seconds == 0.001 < found["sided"].seconds
    assert "no such luck" in found["broken"].reason
    assert "'ugly'" in found["alien"].reason

    lines = out.read_text().splitlines()
    out.write_text("\n".join([*lines[:-1], lines[-1][:40]]))  # killed as it wrote
    again = run(suite, entrants, out=out, shots=[2], draws=[1], say=said.append)
    assert "1 of 6 runs are to be made." in said
    assert {r.key for r in again} == {r.key for r in runs}
    assert len(out.read_text().splitlines()) == 7


def test_a_command_that_does_not_end_on_a_cut_test_part_is_a_failed_run(
    suite, tmp_path, monkeypatch
):
    monkeypatch.setattr(harness, "LATE", (0.0, 0.3, 0.1))
    slow = entrant_named(script(tmp_path, "slow", "import time; time.sleep(60)"))
    one, _ = run(suite, [slow], out=tmp_path / "r.jsonl", draws=[1], test_rows=2)
    assert one.reason == "RunError: It was not over after 0.5 s."  # 2 rows count
    assert (one.test_rows, one.key[-1]) == (2, 2)


def test_draws_are_seeded_and_hold_so_many_of_each_class(suite):
    rows = suite[1].rows("train")
    one, other = draw(rows, 3, seed=0), draw(rows, 3, seed=1)
    assert one["label"].tolist() == ["bad"] * 3 + ["good"] * 3
    assert draw(rows, 3, seed=0).equals(one)
    assert not one.equals(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [("name = 'x'", "must have keys"), (CARD.format("films", "smell"), "smell")],
)
def test_wrong_cards_are_refused(suite, tmp_path, text, words):
    (tmp_path / "suite" / "films.toml").write_text(text)
    with pytest.raises(UserError, match=words):
        load_suite(tmp_path / "suite")


def test_commands_without_places_and_unknown_rows_are_refused():
    with pytest.raises(UserError, match=r"got none of \{out\}"):
        entrant_named("mine=run {train} {test}")
    with pytest.raises(UserError, match="Closest: 'ours"):
        entrant_named("our")


VALUES = {"ours": (0.9, 0.8, 0.7), "probe": (0.8, 0.8, 0.6), "third": (0.7, 0.6, 0.5)}


@pytest.fixture
def runs():
    """Three tasks, two draws, ours 0.01 better on the second and honest about it."""
    return [
        Run(
            suite="s",
            task=f"t{place}",
            shots=8,
            draw=draw,
            budget=None if name == "probe" else 60.0,
            entrant=name,
            status="done",
            value=value + 0.01 * draw * (name == "ours"),
            seconds=10.0 + place,
            members=3,
            expected=0.85 if name == "ours" else None,
            low=0.75 if name == "ours" else None,
            high=0.95 if name == "ours" else None,
        )
        for name, values in VALUES.items()
        for place, value in enumerate(values)
        for draw in (0, 1)
    ]


def test_figures_of_the_summary_are_those_by_hand(runs):
    (summary,) = summarise(runs, "ours")
    gap = summary.differences()["probe"]
    assert gap["mean"] == pytest.approx((0.1 + 0.0 + 0.1) / 3 + 0.005)
    assert (gap["pairs"], gap["worst_task"]) == (6, "t1")
    assert gap["worst"] == pytest.approx(0.005)
    assert gap["low"] == pytest.approx(0.04, abs=0.02)
    assert gap["high"] == pytest.approx(0.11, abs=0.01)
    ranks, critical, p = summary.ranks()
    assert ranks == {"ours": 1.0, "probe": 2.0, "third": 3.0}
    assert critical == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 3)), abs=0.01)
    assert p == pytest.approx(np.exp(-3), abs=1e-6)  # chi square of 6, 2 degrees
    facts = summary.facts().loc["ours"]
    assert facts["held"] == pytest.approx(4 / 6)
    assert facts["stated_error"] == pytest.approx(0.85 - 0.805)
    assert facts["latest_seconds"] == 12.0
    assert "ours - probe: +0.072" in summary.table()


def test_what_lacks_a_task_has_no_rank_and_failures_are_counted(runs, tmp_path):
    runs[-1] = replace(runs[-1], status="failed", value=None)
    runs[-2] = replace(runs[-2], status="failed", value=None)
    (summary,) = summarise(runs, "ours")
    assert set(summary.ranks()[0]) == {"ours", "probe"}
    assert summary.facts().at["third", "failed"] == 2
    assert summary.differences()["third"]["pairs"] == 4
    json.dumps(summary.figures())
    with pytest.raises(UserError, match="must be one of ours, probe, third"):
        summarise(runs, "fourth")
    none = [replace(one, status="failed", value=None) for one in runs]
    (summary,) = summarise(none, "ours")
    assert summary.ranks()[0] == {}
    assert "failed" in summary.table()
    assert plots.draw_all([summary], tmp_path / "r.jsonl") == []


def test_plots_are_written_or_their_absence_is_told(runs, tmp_path, monkeypatch):
    summaries = summarise(runs, "ours")
    plots.draw_all(summaries, tmp_path / "r.jsonl")
    names = ["r-8-60s-ranks", "r-8-seconds"]
    assert sorted(p.stem for p in tmp_path.glob("*.png")) == names
    assert all(p.read_bytes()[1:4] == b"PNG" for p in tmp_path.glob("*.png"))
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    assert plots.draw_all(summaries, tmp_path / "x.jsonl")[0].startswith("No plots")
