import io
import time
from dataclasses import replace

from rich.console import Console

from fewshot_automl.automl import screen
from fewshot_automl.automl.result import Listener
from fewshot_automl.automl.screen import Progress
from fewshot_automl.automl.settings import Settings
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.study import Event

PROBE = Config.of({"method": "probe", "backbone": "minilm-l6", "head": "lda"})
LORA = Config.of({"method": "lora", "backbone": "minilm-l6", "rank": 8, "steps": 40})
LONGER = Config.of({**LORA.to_json(), "steps": 80})


def done(mean, standard_error=0.03):
    return Outcome(
        status="done", mean=mean, standard_error=standard_error, cost_seconds=1.25
    )


def event(kind, number, config, outcome, history, trials_left=None):
    return Event(
        kind=kind,
        number=number,
        config=config,
        outcome=outcome,
        history=history,
        trials_left=trials_left,
    )


def progress(tmp_path, *, is_terminal, **asked):
    written = io.StringIO()
    console = Console(file=written, force_terminal=is_terminal, width=100)
    asked = {"budget_seconds": 60.0, "trials": 9, **asked}
    folder = tmp_path / "runs" / "x"
    began = time.monotonic() - 12
    return Progress(console, began, Settings(**asked), folder), written


def play(shown):
    running = Outcome(status="running")
    first = [(PROBE, done(0.6))]
    second = [*first, (LORA, Outcome(status="failed", reason="NaN at step 3"))]
    third = [*second, (LONGER, done(0.75))]
    shown.say("Input: text.")
    shown.trial(event("started", 0, PROBE, running, [(PROBE, running)]))
    shown.trial(event("finished", 0, *first[0], first))
    shown.trial(event("started", 1, LORA, running, [*first, (LORA, running)]))
    shown.trial(event("finished", 1, *second[1], second))
    shown.trial(event("started", 2, LONGER, running, [*second, (LONGER, running)], 4))
    return third


def test_it_is_a_listener(tmp_path):
    assert isinstance(progress(tmp_path, is_terminal=False)[0], Listener)


def test_a_log_has_one_line_a_trial(tmp_path):
    shown, written = progress(tmp_path, is_terminal=False)
    with shown.live():
        third = play(shown)
        shown.trial(event("finished", 2, *third[2], third))
    lines = written.getvalue().splitlines()
    assert lines == [
        "Input: text.",
        f"Output folder: {tmp_path / 'runs' / 'x'}",
        "0:00:12  trial   0  probe (lda) on minilm-l6: "
        "accuracy 0.600 ± 0.059 (1.2 s)  best so far",
        "0:00:12  trial   1  lora on minilm-l6: failed (0 ms). NaN at step 3",
        "0:00:12  trial   2  lora on minilm-l6: "
        "accuracy 0.750 ± 0.059 (1.2 s)  best so far",
    ]


def test_a_log_says_what_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr(screen, "SILENT_SECONDS", 0.02)
    shown, written = progress(tmp_path, is_terminal=False)
    with shown.live():
        running = Outcome(status="running")
        shown.trial(event("started", 3, LORA, running, [(LORA, running)]))
        time.sleep(0.3)
    assert "0:00:12  trial   3  lora on minilm-l6 ...\n" in written.getvalue()


def test_a_terminal_shows_budget_counts_what_is_tried_and_the_best(tmp_path):
    shown, _ = progress(tmp_path, is_terminal=True)
    with shown.live():
        play(shown)
        paper = Console(file=io.StringIO(), width=100)
        paper.print(shown._draw())
    text = paper.file.getvalue()
    assert "0:00:12 of 0:01:00" in text
    assert "trial 3 of 7 · 1 done · 1 failed" in text
    assert "now   lora on minilm-l6  rank 8, steps 80" in text
    assert "best  probe (lda) on minilm-l6  accuracy 0.600 ± 0.059" in text


def test_without_a_limit_there_is_no_bar(tmp_path):
    shown, _ = progress(tmp_path, is_terminal=True, budget_seconds=None)
    paper = Console(file=io.StringIO(), width=100)
    paper.print(shown._draw())
    assert "━" not in paper.file.getvalue()
    assert "0:12" in paper.file.getvalue()


def test_losses_are_shown_as_losses(tmp_path):
    shown, written = progress(tmp_path, is_terminal=False, metric="log_loss")
    history = [(PROBE, done(-0.4))]
    shown.trial(event("finished", 0, *history[0], history))
    assert "log_loss 0.400 ± 0.059" in written.getvalue()


def test_square_brackets_in_sentences_are_no_markup(tmp_path):
    shown, written = progress(tmp_path, is_terminal=False)
    shown.say("Target: 'label[0]' and [bold]")
    assert "Target: 'label[0]' and [bold]" in written.getvalue()


def test_what_is_over_a_limit_is_marked_and_never_the_best(tmp_path):
    limits = {"max_latency_ms": 5.0}
    shown, written = progress(tmp_path, is_terminal=False, limits=limits)
    slow, quick = (
        replace(done(mean), measures={"latency_ms": latency})
        for mean, latency in ((0.9, 9.0), (0.6, 2.0))
    )
    history = [(PROBE, slow)]
    shown.trial(event("finished", 0, PROBE, slow, history))
    shown.trial(event("finished", 1, LORA, quick, [*history, (LORA, quick)]))
    first, second = written.getvalue().splitlines()[-2:]
    assert first.endswith("over a limit")
    assert second.endswith("best so far")
