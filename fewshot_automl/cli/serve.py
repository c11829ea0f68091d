"""The command ``serve``: a model over HTTP."""

import os
import socket
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TextIO

import click

from fewshot_automl.cli.console import say
from fewshot_automl.cli.options import FOLDER
from fewshot_automl.errors import UserError
from fewshot_automl.serve.answering import Limits, Served

LOCAL = ("127.0.0.1", "localhost", "::1")
LIMITS: dict[str, Any] = {row.name: row.default for row in fields(Limits)}


@click.command("serve")
@click.argument("model", type=FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option(
    "--token-file",
    type=click.File(),
    help="With what requests must send. Default: FEWSHOT_TOKEN of the environment.",
)
@click.option("--reload", is_flag=True, help="Take new versions of the model.")
@click.option(
    "--limit",
    multiple=True,
    type=(click.Choice([*LIMITS]), click.IntRange(1)),
    metavar="NAME NUMBER",
    help="May be repeated. Defaults: "
    + ", ".join(f"{name} {default:,}" for name, default in LIMITS.items()),
)
def serve(
    model: Path,
    host: str,
    port: int,
    token_file: TextIO | None,
    reload: bool,
    limit: tuple[tuple[str, int], ...],
) -> None:
    """Answer requests for predictions over HTTP until SIGTERM or Ctrl-C.

    MODEL is the --out folder of a fit, or of an export to onnx, which is faster.

    \b
    Examples:
      fewshot serve runs/mail
      fewshot serve mail-onnx --port 9000 --reload --limit max_items 10
    """
    if find_spec("fastapi_offline") is None:
        raise UserError("Install it with: pip install 'fewshot-automl[serve]'")
    import uvicorn

    from fewshot_automl.serve.app import make_app
    from fewshot_automl.serve.guard import Protocol

    token = token_file.read().strip() if token_file else os.getenv("FEWSHOT_TOKEN")
    if token == "":
        raise UserError("The token must not be empty. Write one, or leave it out.")
    limits = Limits(**dict(limit))
    served = Served(model)
    # Else a page of another site could ask, by a name that leads to this machine.
    hosts = (*LOCAL, "[::1]") if token is None and host in LOCAL else ("*",)
    if token is None and host not in LOCAL:
        say(f"Anybody who reaches {host} may ask, for there is no token.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise UserError(
            f"Address must be free and of this machine: {error.strerror}. "
            "Choose another by --host or --port."
        ) from error
    place = f"[{host}]" if ":" in host else host
    port = listener.getsockname()[1]
    say(f"Serving version {served.version} at http://{place}:{port}")
    config = uvicorn.Config(
        make_app(served, limits, token, model if reload else None, hosts),
        http=Protocol,
        ws="none",
        access_log=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=max(1, round(limits.seconds)),
    )
    uvicorn.Server(config).run([listener])
