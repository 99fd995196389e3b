"""dialerd results: the outcome of every contact, as the API's CSV."""

from __future__ import annotations

import click

from dialerd.client import transfer
from dialerd.client.commands import Session, api_command


def add(main: click.Group) -> None:
    """Add the command."""
    api_command(main, "results", as_json=False)(_results)


@click.argument("campaign")
@click.option("-o", "--output", default=transfer.STANDARD, help="The file to write; without it, standard output.")
@click.option("--rejects", metavar="IMPORT", help="The rejected rows of this upload, rather than the results.")
async def _results(session: Session, campaign: str, output: str, rejects: str | None) -> None:
    """Download a campaign's results as CSV: a row per contact."""
    path = ("results.csv",) if rejects is None else ("imports", rejects, "rejects.csv")
    async with session.api.open("GET", "campaigns", campaign, *path) as answer:
        written = await transfer.save(answer, output, path[-1])
    if output != transfer.STANDARD:
        click.echo(f"{output}: {written} bytes", err=True)
