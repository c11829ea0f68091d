"""The command ``plan``: where a fit would run, on this machine or a described one."""

import contextlib
import re
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from fewshot_automl.automl.fit import read_as_asked
from fewshot_automl.automl.timeline import Timeline
from fewshot_automl.cli.console import people, print_json, table
from fewshot_automl.cli.options import json_option, setting_options, settings_of_words
from fewshot_automl.errors import UserError
from fewshot_automl.hardware import Device
from fewshot_automl.policy import PlacementPlan

PART: Final = re.compile(
    r"(?:(?P<count>\d+)\s*x\s*)?(?:(?P<memory>[\d.]+)\s*gb|(?P<any>gpu))"
    r"|cpu(?::(?P<cores>\d+))?(?::(?P<ram>[\d.]+)\s*gb)?|mps(?::(?P<shared>[\d.]+)\s*gb)?"
)
NODES: Final = re.compile(r"(\d+)\s*nodes?\s*x\s*(.+)")


class _Console:
    """Is the listener of a fit that is only planned."""

    def __init__(self, is_json: bool) -> None:
        self._console = people(is_json)

    def say(self, sentence: str) -> None:
        """Print a sentence; that on the placement comes at the end."""
        if not sentence.startswith("Placement:"):
            self._console.print(sentence, markup=False, soft_wrap=True)

    def trial(self, event: Any) -> None:
        """Hear of a trial, of which there are none."""


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
    settings = settings_of_words(chosen)
    from fewshot_automl.automl.search import prepare

    listener, line = _Console(is_json), Timeline(started=time.monotonic())
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        dataset = read_as_asked(data, settings)
        ready = prepare(dataset, data, None, settings, home / "plan", listener, line)
    where = ready.where if described is None else ready.placed_on(described)
    console = people(is_json)
    console.print(placement_table(where))
    console.print(f"Placement: {where}", markup=False, soft_wrap=True)
    if is_json:
        print_json(asdict(where))


def placement_table(where: PlacementPlan) -> Any:
    """Return what runs where, a row each."""
    made = table("what", "where", "side by side", "threads each", "processes each")
    place = {"cpu": "the CPU", "mps": "Apple's GPU", "cuda": "GPU"}[where.device]
    if where.cards:
        place = f"GPU {', '.join(map(str, where.cards))}"
    if where.nodes > 1:
        place += f" of {where.nodes} machines"
    is_shared = where.executor == "ranks"
    each = str(where.processes) if is_shared else "1"
    shared = f" ({where.workers_a_gpu} a GPU)" if where.workers_a_gpu > 1 else ""
    side = f"{where.workers}{shared}"
    made.add_row(f"trials ({where.executor})", place, side, f"{where.threads}", each)
    last = place if where.processes > 1 else place.partition(",")[0]
    made.add_row("final fit", last, "1", "all", str(where.processes))
    return made


def devices_of(words: str) -> list[Device]:
    """Return the devices that words describe, GPUs first, those of a node together.

    >>> [one.memory_bytes for one in devices_of("2x24GB + 8GB")]
    [24000000000, 24000000000, 8000000000]
    >>> {one.node for one in devices_of("2 nodes x 8x80GB,nvlink")}
    {0, 1}
    """
    text, _, link = (part.strip() for part in words.lower().partition(","))
    nodes, text = match.groups() if (match := NODES.fullmatch(text)) else ("1", text)
    found: list[Device] = []
    for node in range(int(nodes)):
        for part in text.split("+"):
            known = PART.fullmatch(part.strip())
            if (
                known is None
                or link not in ("", "nvlink")
                or "0"
                in (
                    known["count"],
                    known["cores"],
                    nodes,
                )
            ):
                raise UserError(
                    'devices must be as in "4x24GB", "8x80GB,nvlink", "24GB+8GB", '
                    f'"2 nodes x 8x80GB", "cpu:2" or "mps:16GB", got {words!r}.'
                )
            kind = part.strip()[:3] if part.strip()[:3] in ("cpu", "mps") else "cuda"
            memory = known["memory"] or known["shared"] or known["ram"]
            one = Device(
                kind=kind,
                memory_bytes=round(float(memory) * 1e9) if memory else None,
                cores=int(known["cores"] or 1),
                node=node,
                is_linked=bool(link),
            )
            found += [one] * int(known["count"] or 1)
    return sorted(found, key=lambda one: (one.kind == "cpu", one.node))
