import os
import subprocess
import sys
import time
import warnings

import click
import pytest

from fewshot_automl.cli.entry import (
    HOMES,
    SPINS,
    app,
    main,
    process_start,
    run,
    started,
)
from fewshot_automl.errors import DataError, RunError

HEAVY = {"torch", "numpy", "pandas", "sklearn", "rich", "optuna", "datasets"}


@pytest.fixture
def command(monkeypatch):
    """Let a test add a command ``probe`` that does what it says."""

    def add(function):
        made = click.command("probe")(function)
        monkeypatch.setitem(app.commands, "probe", made)

    return add


def raising(error):
    def function():
        raise error

    return function


def loaded_after(arguments):
    code = (
        "import sys; from fewshot_automl.cli.entry import run; "
        f"code = run({arguments!r}); print(*sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    names = done.stdout.splitlines()[-1].split()
    return done.returncode, {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    code, loaded = loaded_after(arguments)
    assert code == 0
    assert not loaded & HEAVY


def test_help_of_a_fit_lists_the_names_in_our_tables(capsys):
    assert run(["fit", "--help"]) == 0
    words_shown = " ".join(capsys.readouterr().out.split())
    for name in ("macro_f1", "gp, sobol", "in_process, loky"):
        assert name in words_shown


@pytest.mark.parametrize("words", [["zoo", "check"], ["fit", "--help"]])
def test_what_needs_no_model_imports_no_torch(words):
    code, loaded = loaded_after(words)
    assert code == 0
    assert "torch" not in loaded


@pytest.mark.parametrize(
    "words",
    [
        "fit x.csv --target y --methods prob",
        "fit x.csv --target y --backbones minilm-l7",
        "fit x.csv --target y --metric acuracy",
        "fit x.csv --target z",
        "space x.csv --target y --text z",
        "predict . x9.csv",
    ],
)
def test_typos_are_told_before_torch_is_imported(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("t,y\nso good,1\nso bad,0\n")
    code, loaded = loaded_after(words.split())
    assert code == 2
    assert "torch" not in loaded


def test_every_command_has_help_with_an_example(capsys):
    for name in HOMES:
        assert run([name, "--help"]) == 0
        assert f"  fewshot {name}" in capsys.readouterr().out


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fewshot ")


@pytest.mark.parametrize(
    ("arguments", "words_shown"),
    [
        (["fti"], "No such command 'fti'"),
        (["fit"], "Missing argument 'DATA'"),
        (["fit", "x.csv", "--trials", "0"], "'--trials': 0 is not in the range x>=1"),
        (["fit", "x.csv", "--nonsense"], "No such option"),
        (["fit", "x.csv", "--methods", "probe", "lora"], "unexpected extra argument"),
        (["fit", "x.csv", "--target", "y", "--backbones"], "requires an argument"),
        (["fit", "x.csv", "--budget", "soon"], "budget must be a positive time"),
        (["fit", "nowhere.csv", "--target", "y"], "Data must be an existing file"),
        (["fit", "x.csv", "--methods", "probes"], "No method named 'probes'. Closest"),
        (["fit", "x.csv", "--backbones", "x9"], "No backbone named 'x9'"),
        (["fit", "x.csv", "--oracle", "pythia"], "No oracle named 'pythia'"),
        (["fit", "x.csv", "--executor", "cloud"], "No executor named 'cloud'"),
        (["fit", "x.csv", "--metric", "acuracy"], "No metric named 'acuracy'"),
        (["fit", "x.csv", "--device", "tpu"], "Device must be one of"),
        (["fit", "x.csv", "--budget", "none"], "Budget must be a time or a number"),
        (["fit", "x.csv", "--narrow", "rank"], "must be as in rank=4,16, got 'rank'"),
        (["fit", "x.csv", "--max-flops", "5X"], "must be a number above 0 such as 5M"),
        (["predict", "nowhere", "x.csv"], "Directory 'nowhere' does not exist"),
        (["resume", "."], "Folder must hold a study"),
        (["zoo", "show", "minilm-l7"], "No backbone named 'minilm-l7'. Closest"),
        (["zoo", "get"], "Name a backbone, or add --defaults"),
    ],
)
def test_user_errors_are_one_message_and_exit_code_2(
    arguments, words_shown, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("t,y\na man,1\na dog,2\n" * 4)
    is_fit = arguments[:2] == ["fit", "x.csv"] and "--target" not in arguments
    target = ["--target", "y"] if is_fit else []
    assert run([*arguments, *target]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words_shown in err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert [path.name for path in tmp_path.iterdir()] == ["x.csv"]


@pytest.mark.parametrize(
    ("error", "code", "words_shown"),
    [
        (DataError("Data must be good, got bad."), 2, "error: Data must be good"),
        (RunError("Nothing worked."), 1, "error: Nothing worked."),
        (
            PermissionError(13, "Permission denied", "runs"),
            1,
            "error: Permission denied: 'runs'",
        ),
        (KeyError("x"), 1, "error: an unexpected KeyError: 'x'. Add --debug"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_exit_codes(command, error, code, words_shown, capsys):
    command(raising(error))
    assert run(["probe"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert words_shown in err
    assert "Traceback" not in err


def test_a_reader_that_goes_away_is_no_drama():
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "fewshot_automl", "zoo", "show", "minilm-l6"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [["--debug", "probe"], ["probe", "--debug"]])
def test_debug_shows_the_traceback(command, arguments, capsys):
    command(raising(KeyError("x")))
    assert run(arguments) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "Add --debug" not in err


def test_the_value_of_a_command_is_its_exit_code(command):
    command(lambda: 1)
    assert run(["probe"]) == 1


def test_libraries_are_silent_but_not_afterwards(command, capsys):
    def chat():
        import logging

        warnings.warn("old", DeprecationWarning, stacklevel=1)
        logging.getLogger("library").error("noise")

    command(chat)
    assert run(["probe"]) == 0
    assert capsys.readouterr().err == ""
    with pytest.warns(DeprecationWarning, match="old"):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


def test_the_budget_counts_from_the_start_of_the_process(command):
    seen = []
    command(lambda: seen.append(started()))
    run(["probe"], 12.0)
    run(["probe"])
    assert seen[0] == 12.0
    assert seen[1] == pytest.approx(time.monotonic(), abs=5)


def test_a_young_process_knows_when_it_began():
    code = (
        "import time; time.sleep(0.3); "
        "from fewshot_automl.cli.entry import process_start; "
        "print(time.monotonic() - process_start())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 0.3 <= float(done.stdout) < 30
    assert process_start() <= time.monotonic()


@pytest.mark.parametrize(("policy", "spins"), [(None, SPINS), ("ACTIVE", None)])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(
    monkeypatch, policy, spins
):
    monkeypatch.setattr("sys.argv", ["fewshot", "--version"])
    for name, value in (("GOMP_SPINCOUNT", None), ("OMP_WAIT_POLICY", policy)):
        monkeypatch.setenv(name, value or "")
        if value is None:
            monkeypatch.delenv(name)
    with pytest.raises(SystemExit):
        main()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
