from dataclasses import replace

import pytest

from fewshot_automl.report.search import search, tradeoffs

SIZES = (3.0, 12_000.0, 2.2e7, 3.3e7, 1.09e8, 2.3e7)
TIMES = (0.01, 0.4, 6.1, 9.5, 41.0, 12.0)


@pytest.fixture
def make_traded(make_study):
    """Return a function that makes a study with objectives, limits and a front."""

    def make(objectives=("score", "latency_ms"), limits=(), trials=6, **summary):
        study = make_study(("a", "b", "c"), trials=trials)
        history = []
        for number, (config, outcome) in enumerate(study.history):
            measures = {
                "parameters": SIZES[number % 6] + number,
                "latency_ms": TIMES[number % 6] * (1 + 0.1 * (number // 6)),
                "worst_recall": 0.1 + 0.1 * (number % 6),
                "flops": 0.0 if number < 2 else 1e9 * number,
                "memory_mb": 4e-6 * SIZES[number % 6],
            }
            history.append((config, replace(outcome, measures=measures)))
        study.history = history
        means = [outcome.mean for _, outcome in history]
        names = [*objectives, *(limit["name"] for limit in limits)][1:]
        costs = [outcome.measures[names[0]] for _, outcome in history]
        front = [
            i
            for i in sorted(range(trials), key=lambda i: -means[i])
            if not any(
                means[j] >= means[i] and costs[j] < costs[i] for j in range(trials)
            )
        ]
        study.summary |= {
            "objectives": list(objectives),
            "limits": list(limits),
            "front": [
                {"number": i, "score": means[i]}
                | {name: history[i][1].measures[name] for name in names}
                for i in front
            ],
            **summary,
        }
        return study

    return make


def limit(name, value, most=None, least=None):
    kept = (most is None or value <= most) and (least is None or value >= least)
    return {
        "name": name,
        "most": most,
        "least": least,
        "value": value,
        "is_kept": kept,
    }


def plots(study):
    return tradeoffs(study.summary, search(study.summary, study.history))


def test_nothing_is_shown_that_nobody_asked_for(make_study):
    study = make_study(("a", "b"))
    assert plots(study) == ()
    assert "Trade-offs" not in study.write()


def test_the_front_is_drawn_and_listed(make_traded):
    study = make_traded()
    (plot,) = plots(study)
    assert len(plot.rows) == 6
    front = [row for row in plot.rows if row.is_front]
    assert len(front) == len(study.summary["front"]) > 1
    assert [row.is_winner for row in plot.rows].count(True) == 1
    sizes = [row.outcome.measures["latency_ms"] for row in plot.rows]
    # Models without a backbone (0.01 and 0.4 ms) do not stretch the axis.
    assert plot.tiny == 2
    assert sorted(sizes)[1] < plot.values.low < sorted(sizes)[2]
    assert plot.edge is None
    assert plot.front.count("V") == len(front) - 1
    page = study.write()
    assert "<h3>The front</h3>" in page
    assert f'd="{plot.front}"' in page
    assert "latency (ms), smaller is better" in page
    for row in study.summary["front"]:
        assert plot.measure.format(row["latency_ms"]) in page


def test_each_limit_shades_what_it_forbids(make_traded):
    limits = (
        limit("parameters", 2.2e7, most=5e7),
        limit("worst_recall", 0.3, least=0.25),
    )
    study = make_traded(objectives=("score",), limits=limits, over=[0, 1])
    sizes, recalls = plots(study)
    assert 0 < sizes.edge < sizes.values.end
    places = [sizes.values.place(r.outcome.measures["parameters"]) for r in sizes.rows]
    assert sum(place < sizes.edge for place in places) == 5
    assert recalls.edge == recalls.values.place(0.25)
    assert not recalls.values.log
    assert sizes.front == ""  # three things are traded, so no line is the front
    page = study.write()
    assert "at most 50M" in page
    assert "at least 0.25" in page
    assert page.count("over a limit") == 2
    assert "This model breaks a limit" not in page


def test_a_broken_limit_stands_at_the_top(make_traded):
    broken = (limit("latency_ms", 41.0, most=5.0),)
    study = make_traded(objectives=("score",), limits=broken, front=[])
    page = study.write()
    assert "This model breaks a limit that was asked for:" in page
    assert "latency 41 ms (at most 5 ms)" in page
    assert "The front</h3>" not in page
    assert "</svg>on the front" not in page  # nor explained
    assert "Loosen the limit" in page


@pytest.mark.parametrize(
    ("keeping", "said"),
    [
        (0, "of all that was tried, that comes closest to the limits. Looser limits"),
        (1, "Of what keeps the limits, nothing did better than always giving"),
    ],
)
def test_a_constant_answer_that_limits_left_is_not_blamed_on_the_trials(
    make_traded, keeping, said
):
    bounds = (limit("latency_ms", 0.01, most=0.1 if keeping else 0.001),)
    over = list(range(keeping, 6))
    study = make_traded(
        objectives=("score",), limits=bounds, over=over, keeping=keeping
    )
    config = study.history[0][0].to_json()
    study.summary |= {"winner": {"number": 0, "config": config}, "front": []}
    study.summary["score"] |= {"against_majority": "not better"}
    page = " ".join(study.write().split())
    assert said in page
    assert "Nothing that was tried did better" not in page


def test_values_of_zero_and_all_alike_can_be_drawn(make_traded):
    study = make_traded(objectives=("score", "flops"))
    (plot,) = plots(study)
    assert plot.values.place(0.0) == 0.0
    for number, (config, outcome) in enumerate(study.history):
        study.history[number] = (config, replace(outcome, measures={"flops": 1e9}))
    (plot,) = plots(study)
    assert plot.values.low < 1e9 < plot.values.high
    assert study.write()


def test_the_score_axis_is_no_finer_than_the_noise(make_traded):
    study = make_traded()
    (plot,) = plots(study)
    assert plot.scores.high - plot.scores.low > 2 * 0.05
