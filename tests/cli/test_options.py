import dataclasses
import inspect

import click
import pytest

from fewshot_automl.automl.fit import fit as fit_function
from fewshot_automl.automl.settings import LIMITS, Settings, options
from fewshot_automl.cli.fit import fit
from fewshot_automl.cli.options import setting_options, settings_of_words
from fewshot_automl.modalities import MODALITIES


def settings_of(words):
    @click.command()
    @click.argument("data")
    @setting_options()
    def command(data, **values):
        return settings_of_words(values)

    try:
        return command.main(words.split(), standalone_mode=False)
    except click.UsageError as error:
        return error.format_message()


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("", {}),
        ("--max-parameters 5M", {"limits": {"max_parameters": 5e6}}),
        ("--max-flops 2g", {"limits": {"max_flops": 2e9}}),
        ("--max-latency-ms 1.5", {"limits": {"max_latency_ms": 1.5}}),
        ("--min-worst-recall 0", {"limits": {"min_worst_recall": 0.0}}),
        ("--objectives latency_ms", {"objectives": ("score", "latency_ms")}),
        ("--budget 2min", {"budget_seconds": 120.0}),
        ("--budget none --trials 3", {"budget_seconds": None, "trials": 3}),
        (
            "--narrow rank=4,16 --narrow a=x --narrow b=0.5",
            {"narrow": {"rank": (4, 16), "a": ("x",), "b": (0.5,)}},
        ),
        ("--methods lora,probe --seed 0", {"methods": ("lora", "probe")}),
        ("--methods lora --methods=probe,lora", {"methods": ("lora", "probe")}),
        ("--strict --text review", {"is_strict": True, "inputs": {"text": "review"}}),
    ],
)
def test_words_become_settings(words, changes):
    assert settings_of(f"d {words}") == Settings(**changes)


@pytest.mark.parametrize("word", ["0", "-5", "5X", "M", "nan", "1e999"])
def test_amounts_that_cannot_be_meant_are_refused(word):
    assert "must be a number above 0" in settings_of(f"d --max-latency-ms={word}")


def test_a_setting_is_a_field_a_flag_a_keyword_and_a_key():
    fields = [field.name for field in dataclasses.fields(Settings)]
    assert fields == list(options()) == list(Settings().to_json())
    others = {"data", "test", "out", "is_json"}
    flags = {param.name for param in fit.params} - others
    assert flags == {*fields, *LIMITS, *MODALITIES} - {"limits", "inputs"}
    spelt = {option.name or name for name, option in options().items()}
    around = {"data", "labels", "test", "out", "settings", "progress", "listener"}
    around |= {"started", "follows", "searches", "begins_with", "carried"}
    assert {*inspect.signature(fit_function).parameters} - around <= spelt
