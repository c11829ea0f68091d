"""The command ``fewshot`` and its subcommands; light, so that --help is quick."""

import click

from fewshot_automl.cli.commands import Group
from fewshot_automl.cli.demo import demo
from fewshot_automl.cli.doctor import doctor
from fewshot_automl.cli.models import predict, score
from fewshot_automl.cli.prior import prior
from fewshot_automl.cli.space import space
from fewshot_automl.cli.studies import fit, resume
from fewshot_automl.cli.zoo import zoo


def _version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        import fewshot_automl

        click.echo(f"fewshot {fewshot_automl.__version__}")
        ctx.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_version,
    help="Print the version.",
)
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    help="Show tracebacks and what libraries say; may stand after a command too.",
)
def app() -> None:
    """Get the best model that a few labels can buy, and an honest score for it.

    Begin with:
      fewshot demo
      fewshot fit reviews.csv --target sentiment --budget 5min

    Exit codes: 0 done, 1 failed, 2 something to mend in the command or the data,
    130 interrupted.
    """


for _command in (fit, predict, score, resume, prior, zoo, space, doctor, demo):
    app.add_command(_command)
