"""The command ``plan``: where a fit would run, on this machine or a described one."""

import re
import tempfile
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

import click

from fewshot_automl.automl.fit import read_as_asked
from fewshot_automl.automl.timeline import Timeline
from fewshot_automl.cli.console import facts, people, print_json
from fewshot_automl.cli.entry import started
from fewshot_automl.cli.options import json_option, setting_options, settings_of_words
from fewshot_automl.errors import UserError
from fewshot_automl.hardware import Device

PART: Final = re.compile(
    r"(?:([1-9]\d*)\s*x\s*)?(gpu|cpu|mps|)(?::([1-9]\d*)(?!\d*\.?\d*\s*gb))?"
    r"(?::?(\d+(?:\.\d+)?)\s*gb)?"
)
"""How many of which device, with how many cores and how much memory."""
NODES: Final = re.compile(r"([1-9]\d*)\s*nodes?\s*x\s*(.+)")


@click.command("plan")
@click.argument("data")
@click.option(
    "--devices",
    metavar="WORDS",
    help='Of another machine: "4x24GB", "8x80GB,nvlink", "24GB+8GB", "4xGPU", '
    '"2 nodes x 8x80GB", "cpu:2:8GB", "mps:16GB", "24GB+cpu:16". Default: this one.',
)
@setting_options()
@json_option
def plan(data: str, devices: str | None, is_json: bool, **chosen: Any) -> None:
    """Say where a fit of DATA would run and why: devices, workers, processes.

    Takes the options of a fit. Nothing is trained or kept.

    \b
    Examples:
      fewshot plan reviews.csv --target sentiment
      fewshot plan photos/ --budget 1h --devices "8x80GB,nvlink"
    """
    described = None if devices is None else devices_of(devices)
    # A study in a shared storage would be kept there.
    settings = replace(settings_of_words(chosen), storage=None, study=None)
    console = people(is_json)
    from fewshot_automl.automl.screen import Progress

    line = Timeline(started=started())
    line.mark("start")
    dataset = read_as_asked(data, settings)
    line.mark("reading")
    from fewshot_automl.automl.search import prepare

    line.mark("imports")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "study"
        says = Progress(console, line.started, settings, folder)
        ready = prepare(dataset, data, None, settings, folder, says, line)
    where = ready.where if described is None else ready.placed_on(described)
    console.print(f"\nOn {devices or 'this machine'}:", markup=False)
    cards = [f"{where.device} {number}" for number in where.cards]
    sides = (
        [f"{where.workers} side by side"] if where.workers > 1 else ["one at a time"]
    )
    if where.workers_a_gpu > 1:
        sides.append(f"{where.workers_a_gpu} on each GPU")
    shares = f"shared by {where.processes} processes" if where.processes > 1 else ""
    if where.is_sharded:
        shares += ", which split weights and optimiser"
    rows = {
        "trials": ", ".join(sides),
        "executor": where.executor,
        "on": ", ".join(cards) or where.device,
        "final fit" if where.executor != "ranks" else "trainings": shares,
        "weights": "read in parts from their file" if where.is_offloaded else "",
        "why": where.reason,
    }
    console.print(facts(rows))
    if is_json:
        print_json(asdict(where))


def devices_of(words: str) -> list[Device]:
    """Return the devices that words describe, GPUs first, those of a node together.

    >>> [one.memory_bytes for one in devices_of("2x24GB + 8GB")]
    [24000000000, 24000000000, 8000000000]
    >>> {one.node for one in devices_of("2 nodes x 8x80GB,nvlink")}
    {0, 1}
    """
    text, _, link = (part.strip() for part in words.lower().partition(","))
    nodes, text = match.groups() if (match := NODES.fullmatch(text)) else ("1", text)
    parts = [PART.fullmatch(part.strip()) for part in text.split("+")]
    found: list[Device] = []
    for node, known in product(range(int(nodes)), parts):
        if known is None or not (known[2] or known[4]) or link not in ("", "nvlink"):
            raise UserError(
                'devices must be as in "4x24GB", "8x80GB,nvlink", "24GB+8GB", '
                f'"2 nodes x 8x80GB", "cpu:2:8GB" or "mps:16GB", got {words!r}.'
            )
        one = Device(
            kind=known[2] if known[2] in ("cpu", "mps") else "cuda",
            memory_bytes=round(float(known[4]) * 1e9) if known[4] else None,
            cores=int(known[3] or 1),
            node=node,
            is_linked=bool(link),
        )
        found += [one] * int(known[1] or 1)
    return sorted(found, key=lambda one: (one.kind == "cpu", one.node))
