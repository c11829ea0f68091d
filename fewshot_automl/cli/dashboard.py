"""The command ``dashboard``: optuna-dashboard on the trials of a study."""

from pathlib import Path

import click

from fewshot_automl.automl.record import settings_of
from fewshot_automl.cli.console import say
from fewshot_automl.cli.options import FOLDER
from fewshot_automl.errors import UserError
from fewshot_automl.ledger.storage import open_journal, open_url


@click.command("dashboard")
@click.argument("folder", type=FOLDER)
@click.option("--port", type=click.IntRange(1, 65_535), default=8080, metavar="N")
def dashboard(folder: Path, port: int) -> None:
    """Show the trials of a study in the browser, live while it runs.

    FOLDER is the --out folder of a fit. Only this machine can open the page.

    \b
    Example:
      fewshot dashboard runs/reviews
    """
    url = settings_of(folder).storage
    storage = open_url(url) if url else open_journal(folder / "study.journal")
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        install = "pip install 'fewshot-automl[dashboard]'"
        raise UserError(f"The dashboard is not installed: {install}") from error
    say(f"http://127.0.0.1:{port} shows the study. Ctrl-C ends it.")
    run_server(storage, host="127.0.0.1", port=port)
