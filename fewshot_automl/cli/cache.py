"""The command ``cache``: what the cache folder holds, and emptying it."""

import shutil
import sys

import click
from rich import filesize

from fewshot_automl.cli.console import people, table
from fewshot_automl.places import CONTENTS, cache_folder, size_bytes


@click.command("cache")
@click.argument("parts", nargs=-1, type=click.Choice([*CONTENTS]), metavar="[PART]...")
@click.option("--clear", "is_cleared", is_flag=True, help="Delete them.")
def cache(parts: tuple[str, ...], is_cleared: bool) -> None:
    """Say what the cache folder holds and how large it is, all or the PARTS named.

    \b
    Examples:
      fewshot cache
      fewshot cache features --clear
    """
    home, console, chosen = cache_folder(), people(False), parts or tuple(CONTENTS)
    made = table("in the cache", "size", "what", right=("size",))
    for part in chosen:
        made.add_row(part, filesize.decimal(size_bytes(home / part)), CONTENTS[part])
        for study in sorted(home.glob(f"{part}/*/study.json")):
            size = filesize.decimal(size_bytes(study.parent))
            made.add_row(f"  {study.parent.name}", size, "")
    console.print(f"Cache folder (FEWSHOT_CACHE): {home}", soft_wrap=True, markup=False)
    console.print(made)
    if is_cleared:
        if sys.stdin.isatty():
            click.confirm(f"Delete {', '.join(chosen)}?", abort=True)
        for part in chosen:
            if (home / part).exists():
                shutil.rmtree(home / part)
        console.print(f"Deleted: {', '.join(chosen)}.")
